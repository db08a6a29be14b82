// The keys of review. Every decision is sent, and stored, before the next screen is shown.
"use strict";

const MATCHES = 8;
const RETRY_MS = 2000;
const body = document.body.dataset;
const byId = (id) => document.getElementById(id);
const grid = byId("grid");
const items = grid ? [...grid.children] : [];
byId("no-script").remove();
const statusLine = byId("status");
const dialogs = { classes: byId("classes"), closer: byId("closer"), keys: byId("keys") };
const states = items.map(() => null); // null; "marked"; or {answer, label}
const missing = new Set(); // Positions whose picture the server did not send.
let selected = 0;
let isChosen = false; // Whether the selected image was gone to and has no answer since: letters are of its class.
let sending = false;
let wake = null; // Ends the pause before a decision is sent again: wake(true) sends it at once, wake(false) gives up.
let labels = null;
const lists = listsByTitle(); // Of the first page: addresses of the screens that are no class.
let matches = [];
let chosen = 0;

// Rules without a page; the simulation of keys has the same ones.

/** Classes that match what was typed: by their beginning, then by that of a word, then anywhere. */
function matching(names, typed) {
  const text = typed.trim().toLowerCase();
  if (!text) return names.slice(0, MATCHES);
  const found = [[], [], []];
  for (const name of names) {
    const at = name.toLowerCase().indexOf(text);
    if (at < 0) continue;
    const words = name.toLowerCase().split(/[^\p{L}\p{N}]+/u);
    found[at === 0 ? 0 : words.some((word) => word.startsWith(text)) ? 1 : 2].push(name);
  }
  return found.flat().slice(0, MATCHES);
}

/** Whether a key chooses one of the classes that are listed: a digit that continues the name of none. */
function isChoice(names, typed, key) {
  const longer = (typed + key).trim().toLowerCase();
  return /^[1-8]$/.test(key) && !names.some((name) => name.toLowerCase().includes(longer));
}

/** The position that an arrow leads to, in rows of so many columns; past an edge on the other side. */
function moved(position, key, count, columns) {
  if (key === "ArrowLeft") return (position + count - 1) % count;
  if (key === "ArrowRight") return (position + 1) % count;
  const rows = Math.ceil(count / columns);
  const step = key === "ArrowDown" ? 1 : rows - 1;
  let next = position;
  do next = (((Math.floor(next / columns) + step) % rows) * columns) + (next % columns);
  while (next >= count);
  return next;
}

/** Addresses of the lists of the first page by title; of titles that occur twice, all but the first have the name too. */
function listsByTitle() {
  const found = new Map();
  for (const link of document.querySelectorAll(".links a")) {
    const title = link.textContent;
    found.set(found.has(title) ? link.parentElement.textContent : title, link.href);
  }
  return found;
}

/** What can be typed: classes, and lists whose titles are no class. */
function typable() {
  return [...labels, ...[...lists.keys()].filter((title) => !labels.includes(title))];
}

// The screen.

/** Whether letters search a class from the first one on. */
function searchesAtOnce() {
  return body.blind === "true" || items.length <= 1;
}

/** Whether letters search a class; if not, they choose the image with that letter. */
function lettersSearch() {
  return isChosen || searchesAtOnce();
}

function showLetters() {
  body.letters = lettersSearch() ? "class" : "image";
  byId("letters").textContent = whatLettersDo();
}

function whatLettersDo() {
  if (!lettersSearch()) return "Letters: choose an image.";
  if (items.length <= 1) return "Letters: its class.";
  if (searchesAtOnce()) return "Letters: its class. Shift and a letter: choose an image.";
  return "Letters: its class (/ first, if it begins with n, s, u or x). Esc: letters choose an image.";
}

function choose(position) {
  isChosen = true;
  select(position);
}

function columns() {
  const top = items[0].offsetTop;
  const second = items.findIndex((item) => item.offsetTop !== top);
  return second < 0 ? items.length : second;
}

function say(text) {
  statusLine.textContent = text;
}

function described(position) {
  const state = states[position];
  const item = items[position].dataset;
  const proposed = item.proposed || "no answer yet";
  if (state === "marked") return "marked";
  if (state === null) return body.blind === "true" ? "no answer yet" : proposed;
  return { label: state.label, unknown: "none of the classes", unreadable: "unreadable", skipped: "skipped" }[state.answer];
}

function show(position) {
  const item = items[position];
  const state = states[position];
  item.className = state === null ? "" : state === "marked" ? "marked" : "answered";
  item.setAttribute("aria-selected", String(state !== null));
  const label = item.querySelector(".label bdi");
  label.textContent = state === null ? item.dataset.proposed : state === "marked" ? `not ${item.dataset.proposed || "sure"}` : described(position);
  item.querySelector(".score").hidden = state !== null;
  const shown = [...item.querySelectorAll(".hint, .label, .why")].map((part) => part.innerText.trim()).filter(Boolean).join(" ").replace("⇧", "Shift ");
  const said = state === "marked" ? ", marked" : state === null && !item.dataset.proposed ? ", no answer yet" : "";
  item.setAttribute("aria-label", `${shown}${said}, ${position + 1} of ${items.length}, ${item.dataset.key}`);
}

function select(position) {
  items[selected].removeAttribute("data-current");
  selected = position;
  items[selected].setAttribute("data-current", "");
  grid.setAttribute("aria-activedescendant", items[selected].id);
  items[selected].scrollIntoView({ block: "nearest" });
  showLetters();
  const detail = byId("detail");
  detail.replaceChildren();
  const key = document.createElement("bdi");
  key.textContent = items[selected].dataset.key;
  detail.append(key);
  JSON.parse(items[selected].dataset.top).forEach(([name, score], place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.tabIndex = -1;
    const number = document.createElement("kbd");
    number.textContent = String(place + 1);
    const text = document.createElement("bdi");
    text.textContent = name;
    button.append(number, " ", text, score === null ? "" : ` ${Math.round(100 * score)} %`);
    button.addEventListener("click", () => answer([selected], { answer: "label", label: name }));
    detail.append(" ", button);
  });
}

function targets() {
  const marked = states.flatMap((state, position) => (state === "marked" ? [position] : []));
  return marked.length ? marked : [selected];
}

function answer(positions, state) {
  for (const position of positions) {
    states[position] = state;
    show(position);
  }
  say(`${positions.length === 1 ? items[positions[0]].dataset.key : `${positions.length} images`}: ${described(positions[0])}`);
  const open = states.findIndex((each, position) => position > selected && each === null);
  isChosen = false;
  if (body.blind === "true" && open >= 0) select(open);
  showLetters();
  grid.focus();
}

function toggle(position) {
  states[position] = states[position] === null ? "marked" : null;
  isChosen = false;
  showLetters();
  show(position);
  say(`${position + 1}: ${described(position)}`);
}

function answers() {
  const given = [];
  items.forEach((item, position) => {
    const state = states[position];
    const id = Number(item.dataset.id);
    if (state === "marked") given.push({ id, answer: "skipped" });
    else if (state !== null) given.push({ id, ...state });
    else if (item.dataset.proposed) given.push({ id, answer: "label", label: item.dataset.proposed });
  });
  return given;
}

// Requests.

/** Send a decision until it is stored. Return false where it is refused, or the person goes back to the screen. */
async function post(path, content) {
  if (sending) return false;
  sending = true;
  document.body.setAttribute("aria-busy", "true");
  let failure = await send(path, content);
  while (failure?.isTemporary) {
    say(`Not stored yet: ${failure.text}. It is sent again until it is stored; Esc goes back to the screen.`);
    if (!(await pause())) break;
    failure = await send(path, content);
  }
  if (failure === null) return true;
  say(`Not stored: ${failure.text}`);
  sending = false;
  document.body.removeAttribute("aria-busy");
  return false;
}

/** Send once. Return null if it is stored, or what failed, and whether that can pass by itself. */
async function send(path, content) {
  try {
    const response = await fetch(path, {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(content),
    });
    if (response.ok) return null;
    return { text: (await response.text()).trim(), isTemporary: response.status === 403 }; // Another server's cookie.
  } catch {
    return {
      text: "the server does not answer. Start fewshot review again on the same port, and open its URL in another tab",
      isTemporary: true,
    };
  }
}

function pause() {
  return new Promise((resolve) => {
    const timer = setTimeout(() => wake(true), RETRY_MS);
    wake = (again) => {
      clearTimeout(timer);
      wake = null;
      resolve(again);
    };
  });
}

async function accept() {
  const given = answers();
  if (!given.length) return say("No image has an answer yet.");
  if (missing.size) return say(withoutPictures());
  const { screen, kind, name, after, index } = body;
  if (await post("/decide", { screen, kind, name, after, index, answers: given })) {
    const isDone = given.length === items.length;
    location.assign(isDone ? body.next : location.href);
  }
}

async function undo() {
  const button = byId("undo");
  if (!button) return say("There is nothing to undo.");
  if (await post("/undo", { batch: button.dataset.batch })) {
    const first = new URL(location.href);
    first.searchParams.delete("after");
    location.assign(first.href);
  }
}

// Type-ahead over classes.

async function openClasses(typed) {
  dialogs.classes.showModal();
  byId("typed").value = typed;
  byId("typed").focus();
  list();
  while (labels === null && dialogs.classes.open) {
    labels = await readLabels();
    byId("no-labels").hidden = labels !== null;
    if (labels === null) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    else list();
  }
}

async function readLabels() {
  const response = await fetch("/labels", { credentials: "same-origin" }).catch(() => null);
  return response?.ok ? response.json().catch(() => null) : null;
}

function list() {
  if (labels === null) return;
  const typed = byId("typed").value.trim();
  matches = matching(typable(), typed).map((name) => [name, name]);
  if (typed && body.page === "screen" && !labels.includes(typed)) matches.push([typed, `new class: ${typed}`]);
  if (isBoth(typed)) matches.unshift([typed === "u" ? undo : COMMANDS[typed], COMMAND_WORDS[typed]]);
  chosen = 0;
  byId("matches").replaceChildren(
    ...matches.map(([, text], place) => {
      const item = document.createElement("li");
      item.id = `m${place}`;
      item.setAttribute("role", "option");
      const shown = document.createElement("bdi");
      shown.textContent = text;
      if (place < MATCHES) {
        const number = document.createElement("kbd");
        number.textContent = String(place + 1);
        item.append(number, " ");
      }
      item.append(shown);
      item.addEventListener("click", () => take(place));
      return item;
    }),
  );
  highlight();
}

function highlight() {
  [...byId("matches").children].forEach((item, place) => item.setAttribute("aria-selected", String(place === chosen)));
  if (matches.length) byId("typed").setAttribute("aria-activedescendant", `m${chosen}`);
  else byId("typed").removeAttribute("aria-activedescendant");
}

function take(place) {
  if (!matches[place]) return;
  const [name] = matches[place];
  dialogs.classes.close();
  if (typeof name === "function") return name();
  if (body.page === "screen") answer(targets(), { answer: "label", label: name });
  else {
    sending = true; // No key counts until the screen is there.
    const isClass = labels.includes(name);
    location.assign(isClass ? `/screen?${new URLSearchParams({ kind: "class", name })}` : lists.get(name));
  }
}

function inClasses(event) {
  if (event.key === "Enter") {
    event.preventDefault();
    if (labels !== null) take(chosen);
  } else if (labels !== null && isChoice(typable(), byId("typed").value, event.key) && matches[event.key - 1]) {
    event.preventDefault();
    take(event.key - 1);
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    chosen = (chosen + (event.key === "ArrowDown" ? 1 : matches.length - 1)) % Math.max(1, matches.length);
    highlight();
  }
}

// Pictures.

function withoutPictures() {
  return `${missing.size} pictures are missing: the server does not answer. Start fewshot review again on the same port, and open its URL in another tab.`;
}

/** An image that cannot be read is unreadable; one that a server did not send is asked for again. */
async function lost(position, picture) {
  const response = await fetch(picture.src, { credentials: "same-origin" }).catch(() => null);
  if (!picture.isConnected) return;
  if (response?.status === 422) {
    picture.parentElement.textContent = "cannot be read";
    states[position] = { answer: "unreadable" };
    found(position);
    show(position);
    return;
  }
  missing.add(position);
  say(withoutPictures());
  setTimeout(() => (picture.src = picture.getAttribute("src")), RETRY_MS);
}

function found(position) {
  if (missing.delete(position) && !missing.size) say("");
}

/** List the examples that are most similar to an image, or the reason why there are none. */
async function showNearest(list, id) {
  list.dataset.of = id;
  list.replaceChildren();
  const response = await fetch(`/nearest/${body.index}/${id}`, { credentials: "same-origin" }).catch(() => null);
  const { examples, problem } = response?.ok ? await response.json() : { examples: [], problem: "the server does not answer" };
  if (list.dataset.of === id) list.replaceChildren(...examples.map(exampleItem), ...(problem ? [noExamples(problem)] : []));
}

function exampleItem({ number, image, label, similarity }) {
  const [item, picture, name] = ["li", "img", "bdi"].map((tag) => document.createElement(tag));
  picture.src = `/example/${body.index}/${number}`;
  picture.alt = "";
  name.textContent = label;
  item.title = image;
  item.append(picture, name, ` ${similarity.toFixed(2)}`);
  return item;
}

function noExamples(reason) {
  const item = document.createElement("li");
  item.textContent = reason;
  return item;
}

// Keys.

const COMMANDS = {
  Enter: accept,
  " ": () => toggle(selected),
  n: () => answer(targets(), { answer: "unknown" }),
  x: () => answer(targets(), { answer: "unreadable" }),
  s: () => answer(targets(), { answer: "skipped" }),
  ".": () => {
    const { id, key } = items[selected].dataset;
    byId("closer-picture").src = `/large/${body.index}/${id}`;
    byId("closer-picture").alt = key;
    dialogs.closer.showModal();
    if (body.blind !== "true") showNearest(byId("closer-nearest"), id);
  },
};

const COMMAND_WORDS = { n: "none of the classes", x: "unreadable", s: "skip: I cannot say", u: "undo the last decision" };

/** Whether a letter is a command and may begin the name of a class where letters search at once: both are offered. */
function isBoth(key) {
  if (!items.length || !searchesAtOnce() || !Object.hasOwn(COMMAND_WORDS, key)) return false;
  return labels === null || labels.some((name) => name.toLowerCase().startsWith(key));
}

function onScreen(event) {
  const { key } = event;
  if (event.target.closest?.("a, button") && (key === "Enter" || key === " ")) return;
  const hint = event.shiftKey || !lettersSearch() ? items.findIndex((item) => item.dataset.hint === key) : -1;
  if (key.startsWith("Arrow")) choose(moved(selected, key, items.length, columns()));
  else if (hint >= 0) choose(hint);
  else if (key === "Escape") {
    isChosen = false;
    showLetters();
  } else if (/^[1-9]$/.test(key)) {
    const top = JSON.parse(items[selected].dataset.top)[Number(key) - 1];
    if (top) answer([selected], { answer: "label", label: top[0] });
  } else if (Object.hasOwn(COMMANDS, key) && !isBoth(key)) COMMANDS[key]();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (wake && (event.key === "Enter" || event.key === "Escape")) wake(event.key === "Enter");
  if (sending) return;
  if (dialogs.classes.open) return inClasses(event);
  if (dialogs.closer.open || dialogs.keys.open) return;
  if (event.key === "?") return dialogs.keys.showModal();
  if (event.key === "u" && !isBoth("u")) return undo();
  if (items.length) onScreen(event);
  const isSearch = event.key === "/" || (/^\p{L}$/u.test(event.key) && !event.shiftKey && lettersSearch());
  if (isSearch && !event.defaultPrevented && (items.length || body.page === "home")) {
    event.preventDefault();
    openClasses(event.key === "/" ? "" : event.key);
  }
});

byId("typed").addEventListener("input", list);
byId("help").addEventListener("click", () => dialogs.keys.showModal());
byId("undo")?.addEventListener("click", undo);
byId("accept")?.addEventListener("click", accept);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // What was decided meanwhile is not on a page from the browser's memory.
});

if (items.length) {
  items.forEach((item, position) => {
    item.addEventListener("click", () => {
      choose(position);
      toggle(position);
    });
    const picture = item.querySelector("img");
    picture.addEventListener("load", () => found(position));
    picture.addEventListener("error", () => lost(position, picture));
    if (picture.complete && !picture.naturalWidth) lost(position, picture);
    show(position);
  });
  select(0);
  grid.focus({ preventScroll: true });
  if (searchesAtOnce()) readLabels().then((found) => (labels ??= found));
  if (byId("nearest")) showNearest(byId("nearest"), items[0].dataset.id);
  window.addEventListener("load", () => {
    for (const id of body.following.split(" ").filter(Boolean)) new Image().src = `/${body.kind === "large" ? "large" : "picture"}/${body.index}/${id}`;
  });
}
