// Stands in for a library that the viewer has no use for.
export {};
