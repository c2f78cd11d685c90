// The script of `corpusmill browse`. What comes from the crawl is only ever set as text, never as markup.
"use strict";

const page = document.body.dataset;
const byId = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

/** An element with a class and a text. */
function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined && text !== null) element.textContent = text;
  return element;
}

function link(id, text) {
  const element = made("a", "", text);
  element.href = `/id/${id}`;
  return element;
}

function say(text) {
  const toast = byId("toast");
  toast.textContent = text;
  toast.className = "shown";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (toast.className = ""), 4000);
}

/** Sets a text with the hits of a search in it marked. */
function marked(into, text, wanted) {
  const lower = text.toLowerCase();
  const needle = wanted.toLowerCase();
  if (!needle || lower.length !== text.length) { // some letters change their length with their case
    into.textContent = text;
    return;
  }
  const parts = [];
  let at = 0;
  for (let hit = lower.indexOf(needle); hit >= 0 && parts.length < 2_000; hit = lower.indexOf(needle, at)) {
    parts.push(text.slice(at, hit), made("mark", "", text.slice(hit, hit + needle.length)));
    at = hit + needle.length;
  }
  into.replaceChildren(...parts, text.slice(at));
}

const searched = () => new URLSearchParams(page.query).get("search") || "";

/** The answer of this server as JSON; an error that it explains becomes an Error. */
async function ask(name, query, body) {
  const options = body && {
    method: "POST",
    body: JSON.stringify(body),
    headers: {
      "Content-Type": "application/json",
      "X-Corpusmill-Token": document.querySelector("meta[name=corpusmill-token]").content,
    },
  };
  let response;
  try {
    response = await fetch(`/api/${name}?${query}`, options || undefined);
  } catch {
    throw new Error("the server does not answer; was `corpusmill browse` stopped?");
  }
  const type = response.headers.get("content-type") || "";
  const found = type.startsWith("application/json") ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(found.error);
  return found;
}

// ---- the list

function startList() {
  const count = byId("count");
  const query = page.query;
  if (count.dataset.known) count.textContent = number(Number(count.dataset.known));
  else {
    ask("count", query).then(
      (found) => (count.textContent = found.count === null ? "many" : number(found.count)),
      (error) => { count.textContent = "?"; count.title = error.message; },
    );
  }
  const wanted = [...document.querySelectorAll("[data-snippet]")];
  if (wanted.length) {
    const places = wanted.map((one) => one.dataset.snippet).join(",");
    ask("snippets", `${query}&places=${places}`).then(
      (found) => { for (const one of wanted) marked(one, found[one.dataset.snippet] || "", searched()); },
      (error) => say(error.message),
    );
  }
  if (innerWidth < 800) byId("filters").open = false;
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault(); // so that the address holds only what was asked for
    const form = new FormData(event.target);
    const pairs = new URLSearchParams();
    const columns = form.getAll("column"), low = form.getAll("low"), high = form.getAll("high");
    for (const [key, value] of form) {
      if (!["column", "low", "high"].includes(key) && value && !(key === "by" && !form.get("sample"))) {
        pairs.append(key, value);
      }
    }
    columns.forEach((column, place) => {
      if (!column || !(low[place] || high[place])) return;
      pairs.append("column", column);
      pairs.append("low", low[place]);
      pairs.append("high", high[place]);
    });
    location.href = `/?${pairs}`;
  });
  const rows = [...document.querySelectorAll("a.row")];
  let at = -1;
  const move = (by) => {
    if (!rows.length) return;
    at = Math.max(0, Math.min(rows.length - 1, at + by));
    rows[at].focus();
    rows[at].scrollIntoView({ block: "nearest" });
  };
  rows.forEach((row, place) => row.addEventListener("focus", () => (at = place)));
  const keys = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    "/": () => { byId("filters").open = true; document.querySelector("input[type=search]").focus(); },
    n: () => document.querySelector("a[rel=next]")?.click(), p: () => document.querySelector("a[rel=prev]")?.click(),
  };
  listen(keys);
}

/** Calls what a key stands for, unless somebody types. */
function listen(keys) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const work = keys[event.key];
    if (work) {
      event.preventDefault();
      work();
    }
  });
}

// ---- a document

const rowQuery = () => `table=${page.table}&place=${page.place}`;

function segments(into, found) {
  into.replaceChildren(...found.map(([kind, text]) => {
    const tag = { cut: "del", gone: "del", came: "ins" }[kind] || "span";
    return made(tag, kind === "same" ? "" : kind, text);
  }));
}

async function showRecord() {
  const raw = byId("raw"), facts = byId("raw-facts"), text = byId("text"), note = byId("text-facts");
  const recovering = !text.textContent && page.table === "dropped";
  facts.textContent = "reading the crawl …";
  if (recovering) note.textContent = "extracting it again …";
  try {
    const found = await ask("record", rowQuery());
    raw.textContent = found.raw;
    facts.textContent = `${found.kind}, ${number(found.bytes)} bytes${found.shortened ? ", shortened" : ""}`;
    facts.title = found.file;
    if (found.segments.length) {
      segments(text, found.segments);
      note.textContent = "struck through: cut after extraction";
    } else if (recovering) {
      text.textContent = found.text ?? "";
      note.textContent = found.text === null ? "there is none: it was dropped before" : "as it was when it was dropped";
    }
    if (found.equal === false) note.textContent = "extracted again, the text is another one (see corpusmill trace)";
    showSteps(found);
  } catch (error) {
    raw.replaceChildren(made("p", "note", error.message));
    facts.textContent = "";
    if (recovering) note.textContent = "cannot be had";
  }
}

function showSteps(found) {
  const list = byId("steps-list");
  for (const step of found.steps) {
    const item = made("li");
    item.append(made("b", "", step.stage), " ");
    const facts = [];
    if (step.characters !== null) facts.push(`${number(step.characters)} characters${step.changed ? "" : ", unchanged"}`);
    for (const [name, value] of Object.entries(step.columns)) if (value !== "None") facts.push(`${name} ${value}`);
    item.append(made("span", "", facts.join(" · ")));
    list.append(item);
  }
  const lost = found.dropped;
  if (lost) {
    const figure = lost.value === null ? "" : `, ${lost.value}${lost.limit === null ? "" : ` against ${lost.limit}`}`;
    list.append(made("li", "lost", `dropped by ${lost.stage}: ${lost.reason}${figure}`));
  }
  byId("steps").hidden = !list.children.length;
}

async function showTokens() {
  const into = byId("tokens"), facts = byId("tokens-facts");
  try {
    const found = await ask("tokens", rowQuery());
    const pieces = document.createDocumentFragment();
    found.pieces.forEach(([text, ids], place) => {
      const piece = made("span", `t t${place % 6}`, text.replaceAll("\n", "⏎\n"));
      piece.title = ids.join(" ");
      pieces.append(piece);
    });
    into.replaceChildren(pieces);
    const each = found.total ? (found.characters / found.total).toFixed(2) : "-";
    const part = found.shown < found.total ? `, the first ${number(found.shown)} shown` : "";
    facts.textContent = `${number(found.total)}, ${each} characters a token${part}; hover for ids`;
  } catch (error) {
    into.replaceChildren(made("p", "note", error.message));
  }
}

function relation(title, items) {
  const box = made("details", "relation");
  box.open = items.length <= 6;
  box.append(made("summary", "", title));
  const list = made("ul");
  list.append(...items);
  box.append(list);
  byId("relations").append(box);
}

function alike(id, row, url) {
  const item = made("li");
  const similar = row.similarity === null ? "" : `, similarity ${row.similarity.toFixed(3)}`;
  item.append(link(id, id.slice(0, 12)), made("span", "", ` ${row.reason}${similar} `), made("span", "url", url || ""), " ");
  const button = made("button", "small", "differences");
  button.type = "button";
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.textContent = "reading both …";
    const box = made("div", "text difference");
    box.dir = "auto";
    try {
      segments(box, await ask("difference", `id=${page.id}&other=${id}`));
      setTimeout(() => { // once it is in the page
        const first = box.querySelector("ins, del");
        if (first) box.scrollTop = first.offsetTop - box.offsetTop - 60;
      });
    } catch (error) {
      box.textContent = error.message;
    }
    button.replaceWith(box);
  });
  item.append(button);
  return item;
}

async function showRelations() {
  try {
    const found = await ask("duplicates", `id=${page.id}`);
    if (found.lost.length) {
      relation("Lost to", found.lost.map((row) => alike(row.survivor, row, row.survivor_url)));
    }
    if (found.won.length) {
      const more = found.more ? " (the first 50)" : "";
      const title = `${found.won.length} lost to this one${more}`;
      relation(title, found.won.map((row) => alike(row.loser, row, row.loser_url)));
    }
    if (page.table !== "documents") return;
    const copies = await ask("copies", `id=${page.id}`);
    if (copies.length) {
      relation(`In shards: ${copies.length} ${copies.length > 1 ? "copies" : "copy"}`, copies.map((one) =>
        made("li", "", `${one.shard}, tokens ${number(one.token_start)} to ${number(one.token_end - 1)}`)));
    }
  } catch (error) {
    byId("relations").append(made("p", "note", error.message));
  }
}

async function go(backwards) {
  try {
    const found = await ask("neighbour", `${page.query}&at=${page.at}${backwards ? "&back=1" : ""}`);
    if (found.url) location.href = found.url;
    else say(found.note || (backwards ? "this is the first one" : "this is the last one"));
  } catch (error) {
    say(error.message);
  }
}

let judging = Promise.resolve();

/** Stores a judgement, one after the other. */
function judge(label) {
  judging = judging.then(async () => {
    const pressed = document.querySelector(`#labels [data-label=${label}]`);
    const same = pressed.getAttribute("aria-pressed") === "true" && byId("why").value === byId("why").defaultValue;
    const why = byId("why").value.trim();
    const body = { table: page.table, place: page.place, label: same ? "none" : label, why };
    try {
      const found = await ask("label", "", body);
      for (const button of document.querySelectorAll("#labels [data-label]")) {
        button.setAttribute("aria-pressed", String(button.dataset.label === found.label));
      }
      byId("why").defaultValue = byId("why").value;
      byId("by").textContent = found.label === "none" ? "" : found.by;
      say(found.label === "none" ? "label taken back" : `${found.label}; ${number(found.labelled)} labelled`);
      if (new URLSearchParams(page.query).has("sample") && found.label !== "none") setTimeout(() => go(false), 350);
    } catch (error) {
      say(error.message);
    }
  });
}

function startDocument() {
  const panes = byId("panes");
  const show = (name) => {
    panes.dataset.shown = name;
    for (const button of document.querySelectorAll("#panes-tabs button")) {
      button.setAttribute("aria-pressed", String(button.dataset.pane === name));
    }
  };
  show("text");
  if (searched()) marked(byId("text"), byId("text").textContent, searched());
  byId("text").querySelector("mark")?.scrollIntoView({ block: "nearest" });
  byId("panes-tabs").addEventListener("click", (event) => event.target.dataset.pane && show(event.target.dataset.pane));
  byId("next").addEventListener("click", () => go(false));
  byId("previous").addEventListener("click", () => go(true));
  byId("labels").addEventListener("click", (event) => event.target.dataset.label && judge(event.target.dataset.label));
  byId("labels").addEventListener("submit", (event) => {
    event.preventDefault();
    const pressed = document.querySelector("#labels [aria-pressed=true]");
    if (pressed) judge(pressed.dataset.label);
    else say("first press good or bad");
    byId("why").blur();
  });
  listen({
    j: () => go(false), ArrowRight: () => go(false), k: () => go(true), ArrowLeft: () => go(true),
    g: () => judge("good"), b: () => judge("bad"), w: () => byId("why").focus(), u: () => byId("back").click(),
  });
  showRelations();
  if (page.run && page.table === "documents") Promise.all([showRecord(), showTokens()]);
  else if (page.run) showRecord().then(showTokens);
  else {
    byId("raw").replaceChildren(made("p", "note", "a published corpus does not know its crawl; the folder of its run does"));
    byId("tokens").replaceChildren(made("p", "note", "a published corpus is browsed without its tokenizer"));
  }
}

if (page.page === "list") startList();
if (page.page === "document") startDocument();
