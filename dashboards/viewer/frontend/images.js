// What Python packed: a description of each image, and all of their pixels and shares one after the other.

/** Return the images with their pixels (int16) and shares (float32) as views into what came. */
export function unpack(described, pixels, shares) {
  let pixel = 0;
  let share = 0;
  // A copy, because what came need not begin where numbers may.
  const grey = new Int16Array(pixels.slice().buffer);
  const heat = new Float32Array(shares.slice().buffer);
  return described.map((image) => {
    const pixelStart = pixel;
    const shareStart = share;
    pixel += image.names.length * image.height * image.width;
    share += image.names.length * image.rows * image.columns;
    return { ...image, grey: grey.subarray(pixelStart, pixel), heat: heat.subarray(shareStart, share) };
  });
}

/** Return the pixels of one slice. */
export function plane({ grey, height, width }, slice) {
  return grey.subarray(slice * height * width, (slice + 1) * height * width);
}

/** Return the shares of one slice; NaN where the model did not look. */
export function shares({ heat, rows, columns }, slice) {
  return heat.subarray(slice * rows * columns, (slice + 1) * rows * columns);
}

/** Return value, region and share at a place from the left and the top, both in [0, 1). */
export function at(image, slice, x, y) {
  const pixel = Math.floor(y * image.height) * image.width + Math.floor(x * image.width);
  const row = Math.floor(y * image.rows);
  const column = Math.floor(x * image.columns);
  return {
    value: image.offset + image.step * plane(image, slice)[pixel],
    row: row + 1,
    column: column + 1,
    share: shares(image, slice)[row * image.columns + column],
  };
}

/** Return the regions of a slice with the largest shares. */
export function strongest(image, slice, most) {
  const found = Array.from(shares(image, slice), (share, place) => ({
    share,
    row: Math.floor(place / image.columns) + 1,
    column: (place % image.columns) + 1,
  }));
  const counted = found.filter(({ share }) => share);
  return counted.sort((one, other) => Math.abs(other.share) - Math.abs(one.share)).slice(0, most);
}

/** Return the largest share of an image, whatever its sign. */
export function largest(image) {
  return image.heat.reduce((most, share) => (Math.abs(share) > most ? Math.abs(share) : most), 0);
}
