// A table of patients that a keyboard and a screen reader can use. It is told everything, and keeps nothing.

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function heading(column, sort) {
  const cell = element("th");
  cell.scope = "col";
  if (!column.order) {
    cell.textContent = column.label;
    return cell;
  }
  const button = element("button", column.sorted ? `sorted ${column.sorted === "ascending" ? "up" : ""}` : "", column.label);
  button.type = "button";
  button.onclick = () => sort(column.order);
  if (column.sorted) cell.setAttribute("aria-sort", column.sorted);
  cell.append(button);
  return cell;
}

function list(className, items, style) {
  const made = element("ul", className);
  for (const item of items) made.append(element("li", style(item), item.text));
  return made;
}

function risk(row) {
  const cell = element("td", "nowrap");
  if (row.hidden) {
    cell.append(element("span", "quiet", row.hidden));
    return cell;
  }
  const track = element("div", "track");
  track.setAttribute("aria-hidden", "true");
  if (row.low !== null) {
    const span = element("div", "span");
    span.style.left = `${100 * row.low}%`;
    span.style.right = `${100 - 100 * row.high}%`;
    track.append(span);
  }
  const mark = element("div", "mark");
  mark.style.left = `${100 * row.risk}%`;
  track.append(mark);
  cell.append(element("div", "risk", row.said), track, element("div", "small", row.interval));
  return cell;
}

function line(row, labels, open) {
  const made = element("tr");
  const who = element("td");
  const button = element("button", "open", row.subject);
  button.type = "button";
  button.setAttribute("aria-label", `${labels.open} ${row.subject}, ${row.when}`);
  button.onclick = () => open({ subject: row.subject, time: row.time });
  who.append(button, element("div", "small", row.when));
  const change = element("td", "nowrap");
  if (row.change) change.append(element("span", row.change.raises === null ? "" : `change ${row.change.raises ? "raises" : "lowers"}`, row.change.text));
  const reasons = element("td");
  reasons.append(list("reasons", row.reasons, (item) => (item.raises ? "raises" : "lowers")));
  const flags = element("td");
  flags.append(list("", row.flags, (item) => `flag ${item.style}`));
  const reviewed = element("td");
  reviewed.append(element("span", row.verdict ? "verdict" : "quiet", row.verdict || labels.open_review));
  if (row.readers) reviewed.append(element("div", "small", row.readers));
  made.append(who, risk(row), change, reasons, flags, reviewed);
  return made;
}

function isDark(root) {
  const [red, green, blue] = getComputedStyle(root).color.match(/[\d.]+/g).map(Number);
  return red + green + blue > 380; // Light text: a dark page.
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const frame = parentElement.querySelector(".frame");
  const table = element("table");
  const headings = element("tr");
  headings.append(...data.columns.map((column) => heading(column, (order) => setTriggerValue("sort", order))));
  const head = element("thead");
  head.append(headings);
  const body = element("tbody");
  body.append(...data.rows.map((row) => line(row, data.labels, (value) => setTriggerValue("opened", value))));
  table.append(element("caption", "", data.labels.caption), head, body);
  frame.setAttribute("aria-label", data.labels.caption);
  frame.classList.toggle("dark", isDark(frame));
  frame.replaceChildren(table);
}
