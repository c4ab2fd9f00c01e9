/* Controls for a stream's parameters, drawn from their JSON schema: each changes its parameter when it is moved. */

const SENT_TOGETHER = ["width", "height"];
const OURS = [...SENT_TOGETHER, "max_framerate", "detect_out_resolution", "show_loading"];

export class Controls {
  /* own and common: where the processor's parameters go, and those that every stream has. change(values): makes a change. */
  constructor(own, common, change) {
    this.roots = { own, common };
    this.change = change;
    this.nodes = new Map();
    this.waiting = null;
    this.busy = false;
  }

  has(name) { return this.nodes.has(name); }

  draw(schema) {
    this.nodes.clear();
    this.roots.own.replaceChildren();
    this.roots.common.replaceChildren();
    for (const [name, described] of Object.entries(schema.properties ?? {})) {
      const node = make(described);
      if (!node) continue;
      node.name = name;
      node.id = `param-${name}`;
      node.addEventListener("input", () => this.moved(node));
      this.nodes.set(name, node);
      this.roots[OURS.includes(name) ? "common" : "own"].append(field(name, node, described));
    }
  }

  /* Show the values that hold, but for the control that somebody is at. */
  show(params) {
    for (const [name, node] of this.nodes) {
      if (node === document.activeElement || this.busy) continue;
      const value = params[name] ?? null;
      if (node.type === "checkbox") node.checked = Boolean(value);
      else node.value = value ?? "";
      told(node);
    }
  }

  moved(node) {
    told(node);
    if (!node.checkValidity()) return;
    const names = SENT_TOGETHER.includes(node.name) ? SENT_TOGETHER : [node.name];
    const values = Object.fromEntries(names.map((name) => [name, valueOf(this.nodes.get(name))]));
    if (names.length > 1 && Object.values(values).includes(null)) return;
    this.waiting = { ...this.waiting, ...values };
    this.send();
  }

  /* One change at a time; what is moved meanwhile goes as one, with the newest values. */
  async send() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting) {
      const values = this.waiting;
      this.waiting = null;
      await this.change(values);
    }
    this.busy = false;
  }
}

function make(described) {
  const kind = (described.anyOf ?? [described]).find((each) => each.type !== "null") ?? {};
  const options = described.enum ?? kind.enum;
  if (options) return choice(options);
  switch (kind.type ?? described.type) {
    case "boolean": return Object.assign(document.createElement("input"), { type: "checkbox" });
    case "integer": case "number": return number({ ...described, ...kind });
    case "string": return Object.assign(document.createElement("input"), { type: "text", autocomplete: "off", maxLength: described.maxLength ?? 100000 });
    default: return null;
  }
}

function choice(options) {
  const node = document.createElement("select");
  node.append(...options.map((each) => Object.assign(document.createElement("option"), { value: String(each), textContent: String(each) })));
  node.options_ = options;
  return node;
}

function number({ type, minimum, maximum, exclusiveMinimum, exclusiveMaximum }) {
  const node = document.createElement("input");
  const [min, max] = [minimum ?? exclusiveMinimum, maximum ?? exclusiveMaximum];
  const bounded = min !== undefined && max !== undefined;
  const whole = type === "integer";
  node.type = bounded && max - min <= 1000 ? "range" : "number";
  if (min !== undefined) node.min = min;
  if (max !== undefined) node.max = max;
  node.step = whole ? 1 : bounded ? (max - min) / 100 : "any";
  return node;
}

function field(name, node, described) {
  const label = Object.assign(document.createElement("label"), { htmlFor: node.id, textContent: name.replaceAll("_", " ") });
  if (described.description) label.title = described.description;
  const row = Object.assign(document.createElement("div"), { className: "control" });
  row.append(label, node);
  if (node.type === "range") row.append(Object.assign(document.createElement("output"), { htmlFor: node.id }));
  return row;
}

function told(node) {
  if (node.type === "range") node.parentElement.querySelector("output").textContent = node.value;
}

function valueOf(node) {
  if (node.type === "checkbox") return node.checked;
  if (node.options_) return node.options_[node.selectedIndex];
  if (node.type === "text") return node.value;
  return node.value === "" ? null : Number(node.value);
}
