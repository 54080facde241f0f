// Talking to Python: the token from the fragment, JSON out, a header and typed arrays back; and the state as a link.
const KINDS = { f4: Float32Array, u4: Uint32Array, u1: Uint8Array };
const fragment = () => new URLSearchParams(location.hash.slice(1));
const tab = Array.from(crypto.getRandomValues(new Uint8Array(12)), b => b.toString(16).padStart(2, "0")).join("");

export async function ask(question, fields = {}) {
  const answer = await fetch(`/api/${question}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Relukit-Token": fragment().get("token") ?? "" },
    body: JSON.stringify({ tab, ...fields }),
  });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return unpack(await answer.arrayBuffer());
}

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  for (const [name, kind, size] of header.arrays) {
    const bytes = size * Number(kind[1]);
    header[name] = new KINDS[kind](buffer, at, size);
    at += bytes + ((4 - (bytes % 4)) % 4);
  }
  return header;
}

export function readLink() {
  try {
    const text = atob((fragment().get("s") ?? "").replaceAll("-", "+").replaceAll("_", "/"));
    return text ? JSON.parse(text) : null;
  } catch { return null; }
}

export function linkTo(state) {
  const held = fragment();
  held.set("s", btoa(JSON.stringify(state)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", ""));
  return `#${held}`;
}

export function writeLink(state) { history.replaceState(null, "", linkTo(state)); }
