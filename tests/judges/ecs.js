// Holds documents against Elastic's own field list (`@elastic/ecs`): one JSON document a line on stdin, one JSON list of
// faults a line on stdout. Fields under `authspike` are ours: ECS leaves other names to us.
const net = require("node:net");
const readline = require("node:readline");
const { EcsFlat, EcsVersion } = require("@elastic/ecs");

const isDate = (value) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value) && !Number.isNaN(Date.parse(value));
const isText = (value) => typeof value === "string";
const TYPES = {
  keyword: isText,
  constant_keyword: isText,
  wildcard: isText,
  text: isText,
  match_only_text: isText,
  // Sixty-four bits; what JavaScript rounds beyond 53 is still whole.
  long: (value) => Number.isInteger(value) && Math.abs(value) <= 2 ** 63,
  float: Number.isFinite,
  scaled_float: Number.isFinite,
  boolean: (value) => typeof value === "boolean",
  date: (value) => isText(value) && isDate(value),
  ip: (value) => isText(value) && net.isIP(value) !== 0,
};
const containers = new Set();
for (const name of Object.keys(EcsFlat)) {
  const parts = name.split(".");
  for (let length = 1; length < parts.length; length++) containers.add(parts.slice(0, length).join("."));
}

function leaf(name, field, value, faults) {
  const isArray = Array.isArray(value);
  if (field.normalize.includes("array") !== isArray) faults.push(`${name}: ${isArray ? "an" : "no"} array`);
  const values = isArray ? value : [value];
  for (const one of values) {
    const judge = TYPES[field.type];
    if (!judge) faults.push(`${name}: this judge does not know the type ${field.type}`);
    else if (!judge(one)) faults.push(`${name}: ${JSON.stringify(one)} is no ${field.type}`);
    const allowed = field.allowed_values;
    if (allowed && allowed.length > 0 && !allowed.some((known) => known.name === one)) {
      faults.push(`${name}: ${JSON.stringify(one)} is not allowed`);
    }
  }
}

function walk(node, path, faults) {
  for (const [key, value] of Object.entries(node)) {
    const name = path ? `${path}.${key}` : key;
    if (name === "authspike") continue;
    if (name === "labels") {
      for (const [label, text] of Object.entries(value)) if (!isText(text)) faults.push(`labels.${label}: not flat`);
    } else if (EcsFlat[name] && EcsFlat[name].type !== "object") {
      leaf(name, EcsFlat[name], value, faults);
    } else if (!containers.has(name)) {
      faults.push(`${name}: not in ECS`);
    } else if (typeof value !== "object" || value === null || Array.isArray(value)) {
      faults.push(`${name}: not an object`);
    } else {
      walk(value, name, faults);
    }
  }
}

function judge(document) {
  const faults = [];
  walk(document, "", faults);
  for (const required of ["@timestamp", "ecs"]) if (!(required in document)) faults.push(`${required}: missing`);
  if (document.ecs?.version !== EcsVersion) faults.push(`ecs.version: ${document.ecs?.version} is not ${EcsVersion}`);
  for (const category of document.event?.category ?? []) {
    const known = EcsFlat["event.category"].allowed_values.find((one) => one.name === category);
    for (const type of document.event.type ?? []) {
      if (!known?.expected_event_types?.includes(type)) faults.push(`event.type: ${category} knows no ${type}`);
    }
  }
  return faults;
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  process.stdout.write(`${JSON.stringify(judge(JSON.parse(line)))}\n`);
});
