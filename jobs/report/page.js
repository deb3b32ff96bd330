"use strict";
/* The flip browser. All text from outside enters the page through textContent, so none of it can be markup. */

const PER_PAGE = 20;
const MOST_COMPARED = 2_000_000;  // cells of the table that finds what two answers have in common
const byId = (id) => document.getElementById(id);
const embedded = byId("data") && JSON.parse(byId("data").textContent);
const form = byId("filters");
let start = 0;
let request = 0;

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/* What is asked for: the filters are the address, so every view has a link. */

function wanted() {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
}

function address(filters) {
  return `#flips?${new URLSearchParams(filters)}`;
}

function filtersFromAddress() {
  const [place, query] = location.hash.slice(1).split("?");
  if (place !== "flips" || query === undefined) return false;
  form.reset();
  for (const [name, value] of new URLSearchParams(query)) {
    const field = form.elements.namedItem(name);
    if (!field) continue;
    field.value = value;
  }
  return true;
}

/* Where flips come from: the page itself, or the server. Both give {strings, flips, total}. */

function matches(flip, filters) {
  if (filters.variant && flip.variant !== filters.variant) return false;
  if (filters.temperature && flip.temperature !== Number(filters.temperature)) return false;
  if (filters.task && flip.task !== filters.task) return false;
  if (filters.item && flip.item !== filters.item) return false;
  if (filters.direction && (flip.drop > 0) !== (filters.direction === "worse")) return false;
  return !filters.text || texts(flip).some((number) => mentions(number, filters.text.toLowerCase()));
}

function texts(flip) {
  const answers = flip.answers.flat().filter(Boolean).map((answer) => answer[2]);
  return [flip.prompt, flip.target, ...answers].filter((number) => number !== null);
}

function mentions(number, text) {
  return embedded.strings[number].toLowerCase().includes(text);
}

async function fetchFlips(filters) {
  if (embedded) {
    const found = embedded.flips.filter((flip) => matches(flip, filters));
    return { strings: embedded.strings, flips: found.slice(start, start + PER_PAGE), total: found.length };
  }
  const query = new URLSearchParams({ ...filters, start, count: PER_PAGE });
  const response = await fetch(`${form.dataset.source}?${query}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

/* What two texts have in common: the longest common subsequence of their words and signs. */

function commonTokens(a, b) {
  const kept = [new Set(), new Set()];
  let from = 0;
  while (from < a.length && from < b.length && a[from] === b[from]) kept.forEach((k) => k.add(from)), from++;
  let endA = a.length, endB = b.length;
  while (endA > from && endB > from && a[endA - 1] === b[endB - 1]) kept[0].add(--endA), kept[1].add(--endB);
  const rows = endA - from, columns = endB - from;
  if (rows * columns > MOST_COMPARED) return kept;
  const width = columns + 1, length = new Uint16Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      length[i * width + j] = a[from + i] === b[from + j]
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (a[from + i] === b[from + j]) kept[0].add(from + i++), kept[1].add(from + j++);
    else if (length[(i + 1) * width + j] >= length[i * width + j + 1]) i++;
    else j++;
  }
  return kept;
}

function tokens(text) {
  return text.match(/\p{L}+|\p{N}+|\s+|[^\p{L}\p{N}\s]/gu) ?? [];
}

function marked(said, kept, tag) {
  const nodes = [];
  let run = "", runKept = true;
  const flush = () => { if (run) nodes.push(runKept ? run : element(tag, "", run)); run = ""; };
  said.forEach((token, i) => {
    if (kept.has(i) !== runKept) flush(), runKept = !runKept;
    run += token;
  });
  flush();
  return nodes;
}

/* One flip. */

function score(value) {
  return value === null || value === undefined ? "no score" : `score ${Number(value.toFixed(4))}`;
}

function answerBox(model, answer, content) {
  const about = answer[0] === null ? [] : [`seed ${answer[0]}`];
  return element("div", "",
    element("h3", "", element("bdi", "", model), ` · ${[...about, score(answer[1])].join(" · ")}`), content);
}

function textBox(...content) {
  const box = element("pre", "", ...content);
  box.tabIndex = 0;
  box.dir = "auto";
  return box;
}

function answerPair(flip, [first, second], strings) {
  const sides = [[first, flip.baseline], [second, flip.variant]];
  const said = sides.map(([answer]) => answer && answer[2] !== null ? tokens(strings[answer[2]]) : []);
  const kept = commonTokens(...said);
  return element("div", "pair", ...sides.map(([answer, model], i) => {
    if (!answer) return element("div", "", element("h3", "", model), element("p", "soft", "no answer"));
    const box = answerBox(model, answer, textBox(...marked(said[i], kept[i], i ? "ins" : "del")));
    if (answer[3] !== null) box.append(element("p", "soft", "extracted answer: ", element("bdi", "", strings[answer[3]])));
    return box;
  }));
}

function detail(flip, strings) {
  const link = element("a", "", "Link to this item");
  link.href = address({ variant: flip.variant, temperature: flip.temperature ?? "", task: flip.task, item: flip.item });
  const box = element("div", "detail");
  if (flip.prompt !== null) box.append(element("div", "", element("h3", "", "Prompt"), textBox(strings[flip.prompt])));
  if (flip.target !== null) box.append(element("div", "", element("h3", "", "Target"), textBox(strings[flip.target])));
  if (!flip.answers.length) box.append(element("p", "soft", "The input contains only scores; there is no text to show."));
  box.append(...flip.answers.map((pair) => answerPair(flip, pair, strings)));
  box.append(element("p", "soft", `metric ${flip.metric} · `, link));
  return box;
}

function peek(flip, strings) {
  if (flip.prompt === null) return "";
  return strings[flip.prompt].trim().split("\n").pop().slice(-160);
}

function flipBox(flip, strings, open) {
  const worse = flip.drop > 0;
  const temperature = flip.temperature === null ? "" : ` T ${flip.temperature}`;
  const scores = flip.scores.map((value) => Number(value.toFixed(3))).join(" → ");
  const box = element("details", "flip", element("summary", "",
    element("span", `badge ${worse ? "worse" : "better"}`, worse ? "▼ worse" : "▲ better"),
    element("span", "name", flip.variant + temperature),
    element("span", "name", `${flip.task} #${flip.item}`),
    element("span", "", scores),
    element("span", "peek", peek(flip, strings))));
  box.addEventListener("toggle", () => {
    if (box.open && !box.querySelector(".detail")) box.append(detail(flip, strings));
  });
  box.open = open;
  return box;
}

async function show() {
  const mine = ++request;
  const filters = wanted();
  let found;
  try {
    found = await fetchFlips(filters);
  } catch (error) {
    byId("count").textContent = `Cannot load the flips: ${error.message}`;
    return;
  }
  if (mine !== request) return;
  const last = Math.min(start + PER_PAGE, found.total);
  const cut = embedded && embedded.flips.length < embedded.total ? " in this file" : "";
  byId("count").textContent = `${found.total.toLocaleString("en")} flip${found.total === 1 ? "" : "s"}${cut}`;
  byId("where").textContent = found.total ? `${start + 1}–${last} of ${found.total.toLocaleString("en")}` : "";
  byId("previous").disabled = start === 0;
  byId("next").disabled = last >= found.total;
  byId("list").replaceChildren(...found.flips.map((flip) => flipBox(flip, found.strings, Boolean(filters.item))));
}

function changed() {
  start = 0;
  history.replaceState(null, "", address(wanted()));
  show();
}

function turn(by) {
  start += by;
  show().then(() => byId("flips").scrollIntoView());
}

function browse() {
  let typing;
  form.addEventListener("input", (event) => {
    form.elements.item.value = "";
    clearTimeout(typing);
    typing = setTimeout(changed, event.target.name === "text" ? 250 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { form.elements.item.value = ""; changed(); }));
  byId("previous").addEventListener("click", () => turn(-PER_PAGE));
  byId("next").addEventListener("click", () => turn(PER_PAGE));
  const follow = () => {
    if (!filtersFromAddress()) return;
    start = 0;
    show().then(() => byId("flips").scrollIntoView());
  };
  addEventListener("hashchange", follow);
  if (filtersFromAddress()) follow();
  else show();
}

if (form) browse();

/* Progress of a run that is not complete. */

const SECONDS_BETWEEN_LOOKS = 3;

function progressRow({ variant, needed, done, errors }) {
  const bar = element("progress");
  bar.max = needed;
  bar.value = done;
  bar.setAttribute("aria-label", `samples of ${variant}`);
  const name = element("th", "", variant);
  name.scope = "row";
  return element("tr", "", name, element("td", "", bar),
    element("td", "right", `${done.toLocaleString("en")} of ${needed.toLocaleString("en")}`),
    element("td", "right", errors.toLocaleString("en")));
}

function pace(first, now) {
  const rate = (now.done - first.done) / ((Date.now() - first.at) / 1000);
  if (!(rate > 0)) return "No samples have been written since this page was opened.";
  const minutes = Math.ceil((now.needed - now.done) / rate / 60);
  return `${rate.toFixed(1)} samples/s since this page was opened, about ${minutes.toLocaleString("en")} min left.`;
}

async function watch(section) {
  let first = null;
  for (;;) {
    let now;
    try {
      now = await (await fetch(section.dataset.source)).json();
      if (now.error) throw new Error(now.error);
    } catch (error) {
      byId("progress-note").textContent = `Cannot read the progress: ${error.message}`;
      section.hidden = false;
      return;
    }
    const complete = now.done >= now.needed;
    if (!first && complete) return;
    first ??= { done: now.done, at: Date.now() };
    section.hidden = false;
    byId("progress-rows").replaceChildren(...now.variants.map(progressRow));
    byId("progress-note").textContent = complete ? "" : pace(first, now);
    if (complete) {
      byId("progress-title").textContent = "This run is complete";
      byId("progress-note").append("Reload this page to see its verdicts.");
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, SECONDS_BETWEEN_LOOKS * 1000));
  }
}

if (byId("progress")) watch(byId("progress"));
