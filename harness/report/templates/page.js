// What the page of a suite does besides: it filters, and each cell shows the runs behind it. Text
// goes in as text, never as markup.

// --- filters and the track switch --------------------------------------------------------------

find("#still").hidden = true;
const controls = find("#controls");
controls.hidden = false;

function filter() {
  const wanted = Object.fromEntries(new FormData(controls));
  const part = wanted.method.toLowerCase();
  // A line of the panel has no verdict and no promise to be chosen by.
  const is = (row, name) => !wanted[name] || (row.dataset[name] ?? wanted[name]) === wanted[name];
  const fits = (row) =>
    row.dataset.method.toLowerCase().includes(part) && is(row, "verdict") && is(row, "promise");
  for (const track of all(".track")) {
    track.hidden = Boolean(wanted.track) && track.dataset.track !== wanted.track;
    for (const row of all("tr[data-method]", track)) row.hidden = !fits(row);
    if (!track.hidden) {
      const rows = [...find(".ranking, .cells", track).tBodies[0].rows];
      const shown = rows.filter((row) => !row.hidden).length;
      find("#shown").textContent = `${shown} of ${rows.length} methods`;
    }
  }
  all(".cells").forEach((table) => filterColumns(table, wanted.dataset));
}

function filterColumns(table, dataset) {
  if ((table.dataset.only ?? "") === (dataset ?? "")) return;
  table.dataset.only = dataset ?? "";
  const hidden = (cell) => Boolean(dataset) && cell.dataset.dataset !== dataset;
  for (const heading of all("thead [data-dataset]", table)) heading.hidden = hidden(heading);
  const columns = [...table.tHead.rows[1].cells].map((heading) => heading.hidden);
  for (const row of table.tBodies[0].rows)
    for (const cell of row.cells) cell.hidden = columns[cell.cellIndex];
}

controls.addEventListener("input", filter);
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("reset", () => setTimeout(filter));
filter();

// --- records -----------------------------------------------------------------------------------

/** The table of a name, read when first asked for; a column is a list, one value, or coded. */
const tables = {};
function table(name) {
  tables.data ??= JSON.parse(find("#data").textContent);
  if (name in tables) return tables[name];
  const { rows, columns } = tables.data[name];
  const at = (column, row) => (Array.isArray(column) ? column[row] : column);
  const value = (column, row) =>
    column?.codes === undefined ? at(column, row) : column.values[at(column.codes, row)];
  const byPlace = new Map();
  const read = (row) =>
    Object.fromEntries(Object.entries(columns).map(([key, column]) => [key, value(column, row)]));
  for (let row = 0; row < rows; row++) {
    const place = `${value(columns.method, row)} ${value(columns.task, row)}`;
    if (!byPlace.has(place)) byPlace.set(place, []);
    byPlace.get(place).push(row);
  }
  return (tables[name] = {
    /** The rows of a method, by number, on a task, by number. */
    of: (method, task) => (byPlace.get(`${method} ${task}`) ?? []).map(read),
  });
}
const data = () => (table("scores"), tables.data);

const digits = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 4 });
function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? value.toLocaleString("en-GB") : digits.format(value);
}
const change = (value) =>
  value === null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)} %`;

const address = (method, [lookBack, dataset, horizon, patches]) =>
  `#cell/${[method, dataset, lookBack, horizon, patches].map(encodeURIComponent).join("/")}`;
const named = ([lookBack, dataset, horizon, patches]) =>
  `${dataset} ${lookBack}→${horizon} K=${patches}`;

/** A sortable table in a box of its own; `lines` are lists of cells, the first one a heading. */
function tableOf(caption, head, lines) {
  const heads = head.map((name) => make("th", { scope: "col" }, name));
  const body = lines.map(([first, ...rest]) =>
    make("tr", {}, make("th", { scope: "row" }, first), ...rest.map(cellOf)),
  );
  const whole = make(
    "table",
    { class: "plain" },
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...heads)),
    make("tbody", {}, ...body),
  );
  makeSortable(whole);
  return make("div", { class: "box", role: "region", tabindex: "0", "aria-label": caption }, whole);
}
function cellOf(value) {
  if (value instanceof Node) return make("td", {}, value);
  if (typeof value === "number") return make("td", { "data-value": value }, shown(value));
  return make("td", {}, value ?? "–");
}

/** The scores of a method on every task, or of every method on a data set. */
function scores(page) {
  const { methods, tasks } = data();
  const { method, dataset } = page.dataset;
  const lines = [];
  tasks.forEach((task, t) => {
    if (dataset !== undefined && task[1] !== dataset) return;
    methods.forEach((name, m) => {
      if (method !== undefined && name !== method) return;
      for (const own of table("scores").of(m, t)) {
        const link = make("a", { href: address(name, task) }, method ? named(task) : name);
        const where = method ? [] : [`${task[0]}→${task[2]}`];
        const difference = make("span", {}, change(own.change));
        const failed = own.failures ? `${own.failures} of ${own.runs} failed` : `${own.runs}`;
        lines.push([link, ...where, own.mse, own.mse_sd, own.mae, difference, own.tokens, own.train_seconds, failed]);
      }
    });
  });
  const where = method ? ["task"] : ["method", "look-back→horizon"];
  const against = [...new Set(Object.values(data().references))].filter(Boolean).join(" or ");
  const head = [...where, "MSE", "sd over seeds", "MAE", against ? `change against ${against}` : "change", "tokens", "train s", "runs"];
  return tableOf(method ? `Every task of ${method}` : `Every method on ${dataset}`, head, lines);
}
for (const page of all(".page"))
  page.addEventListener("toggle", () => {
    const place = find(".scores", page);
    if (page.open && !place.hasChildNodes()) place.append(scores(page));
  });

const command = (verb, settings) =>
  ["make", verb, ...Object.entries(settings).map(([name, value]) => `${name}=${value}`)].join(" ");
const code = (text) => make("code", { class: "command", tabindex: "0" }, text);

function describe(pairs) {
  const lines = pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
  return make("dl", { class: "card several" }, ...lines);
}

/** Where `make ui` shows this suite's runs; a team's server is named by its experiment's address. */
const SERVER = location.protocol.startsWith("http") ? location.origin : "http://127.0.0.1:5000";
const remember = (value) => remembered(`mlflow-${data().suite}`, value);
const runsOf = () => remember() || `${SERVER}/patchbench/${encodeURIComponent(data().suite)}`;
function tracked(key) {
  const base = runsOf();
  if (!base.includes("#")) return `${base}?key=${key}`;
  // Without the type of work MLflow shows an empty page of traces.
  return `${base}/runs?workflowType=machine_learning&searchFilter=${encodeURIComponent(`tags.key = "${key}"`)}`;
}

function record(method, task, m, t) {
  const runs = table("runs").of(m, t);
  const [lookBack, dataset, horizon] = task;
  const everywhere = ["method", "task", "seed", "key", "status"];
  const names = Object.keys(runs[0]).filter((name) => !everywhere.includes(name));
  const isSame = (name) => runs.every((run) => run[name] === runs[0][name]);
  const vary = names.filter((name) => !isSame(name) && name !== "error");
  const same = names.filter((name) => isSame(name) && runs[0][name] !== null && runs[0][name] !== "");
  const seeds = tableOf(
    "A line a run; all digits are in the rows",
    ["seed", "status", "key", "MLflow", ...vary.map((name) => name.replaceAll("_", " "))],
    runs.map((run) => [
      `${run.seed}`,
      run.status,
      make("code", {}, run.key),
      make("a", { href: tracked(run.key), "data-key": run.key, rel: "noreferrer" }, "run"),
      ...vary.map((name) => run[name]),
    ]),
  );
  const failures = runs.filter((run) => run.error).map((run) => make("p", { class: "failure failed" }, `Seed ${run.seed}: ${run.error}`));
  const settings = {
    SUITE: data().suite,
    METHODS: method,
    DATASETS: dataset,
    LOOK_BACKS: lookBack,
    HORIZONS: horizon,
    SEEDS: [...new Set(runs.map((run) => run.seed))].join(","),
    RESULTS: "again", // elsewhere: what is done is not run again here
  };
  const place = make("input", { type: "search", value: runsOf(), size: "48" });
  place.addEventListener("change", () => {
    remember(place.value);
    for (const link of all("[data-key]", find("#record"))) link.href = tracked(link.dataset.key);
  });
  return [
    seeds,
    ...failures,
    make("h3", {}, "Run it again"),
    code(command("bench", settings)),
    make("p", {}, "Or one run, by its key, compared with its row to the last digit:"),
    code(command("rerun", { KEY: runs[0].key })),
    make("h3", {}, runs.length > 1 ? "The same for all of them" : "What else its row says"),
    describe(same.map((name) => [name.replaceAll("_", " "), shown(runs[0][name])])),
    make("h3", {}, "In MLflow"),
    make("p", {}, "The links to runs work while ", code(command("ui", { SUITE: data().suite })), " runs on the machine that has them."),
    make("p", {}, make("label", {}, "On another port, or of a team's server the address of the experiment (…/#/experiments/7): ", place)),
  ];
}

// Each cell of the large tables becomes a link to its record.
for (const track of all(".track")) {
  const grid = find(".cells", track);
  const columns = [...grid.tHead.rows[1].cells].map(({ dataset: { dataset, horizon, patches } }) => [
    track.dataset.track,
    dataset,
    horizon,
    patches,
  ]);
  for (const cell of all("tbody td:not(.hole)", grid)) {
    cell.dataset.value = parseFloat(cell.textContent);
    const method = cell.parentNode.dataset.method;
    const link = make("a", { href: address(method, columns[cell.cellIndex]) }, ...cell.childNodes);
    cell.append(link);
  }
}

// --- deep links --------------------------------------------------------------------------------

const dialog = find("#record");
let before = "";
dialog.addEventListener("close", () => {
  // The address of the record would open it again on the next visit.
  if (location.hash.startsWith("#cell/")) history.replaceState(null, "", before || location.pathname + location.search);
});

function showRecord(parts) {
  const [method, dataset, ...lengths] = parts;
  const { methods, tasks } = data();
  const wanted = [Number(lengths[0]), dataset, Number(lengths[1]), Number(lengths[2])];
  const m = methods.indexOf(method);
  const t = tasks.findIndex((task) => task.every((value, at) => value === wanted[at]));
  const found = m >= 0 && t >= 0 && table("runs").of(m, t).length > 0;
  find("#record-title").textContent = found ? `${method} on ${named(tasks[t])}` : "No such cell";
  find("#record-body").replaceChildren(...(found ? record(method, tasks[t], m, t) : [location.hash]));
  if (!dialog.open) dialog.showModal();
}

function go() {
  let hash = location.hash.slice(1);
  try {
    if (hash.startsWith("cell/")) return showRecord(hash.split("/").slice(1).map(decodeURIComponent));
    hash = decodeURIComponent(hash);
  } catch {
    return; // not an address of this page
  }
  before = location.hash;
  if (dialog.open) dialog.close();
  const target = hash && document.getElementById(hash);
  if (!target) return;
  if (target.dataset.track && controls.elements.track) {
    controls.elements.track.value = target.dataset.track;
    filter();
  }
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", go);
go();
