// What a forwarded request is compared with: the same work in JavaScript with the host's own cryptography. It checks an EdDSA
// token (key by kid, issuer, audience, type, times), signs the request for the origin with HMAC-SHA256 over the same
// string, passes on the same headers and passes the answer back. REMEMBER=1 keeps good tokens until they expire, as our
// edge does. It leaves out what a GET of a shopper's does not need.

const LEEWAY = 30;
const REMEMBERED = 4096;
const EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const PASSED_ON = ["accept", "content-type", "user-agent", "authorization", "idempotency-key"];
const KEPT_BACK = new Set(["connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding",
  "x-request-id", "server", "set-cookie", "vary", "x-content-type-options", "cache-control"]);

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const known = new Map();
let ready;
let settings;

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
function hex(bytes) {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

function fromBase64Url(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function load(env) {
  const [kid, secret] = env.EDGE_KEY.split(",")[0].split("=");
  const raw = Uint8Array.from(secret.match(/../g), (pair) => parseInt(pair, 16));
  const hmac = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const keys = new Map();
  for (const jwk of JSON.parse(env.JWT_JWKS).keys) {
    keys.set(jwk.kid, await crypto.subtle.importKey("raw", fromBase64Url(jwk.x), "Ed25519", false, ["verify"]));
  }
  const remembers = env.REMEMBER === "1";
  settings = { origin: env.ORIGIN_URL, kid, hmac, keys, remembers, clientIp: env.CLIENT_IP_HEADER };
}

// The user's id, or nothing.
async function user(token, now) {
  const seen = known.get(token);
  if (seen !== undefined) return seen.exp + LEEWAY > now ? seen.sub : undefined;
  const [head, body, signature, more] = token.split(".");
  if (signature === undefined || more !== undefined) return undefined;
  const { alg, kid } = JSON.parse(decoder.decode(fromBase64Url(head)));
  const key = alg === "EdDSA" ? settings.keys.get(kid) : undefined;
  if (key === undefined) return undefined;
  const signed = encoder.encode(token.slice(0, head.length + 1 + body.length));
  if (!(await crypto.subtle.verify("Ed25519", key, fromBase64Url(signature), signed))) return undefined;
  const claims = JSON.parse(decoder.decode(fromBase64Url(body)));
  const fits = claims.iss === "farmgate" && claims.aud === "farmgate-shop" && claims.typ === "access"
    && claims.iat <= now + LEEWAY && claims.exp + LEEWAY > now && /^[1-9][0-9]*$/.test(claims.sub);
  if (!fits) return undefined;
  if (settings.remembers) {
    if (known.size >= REMEMBERED) known.delete(known.keys().next().value);
    known.set(token, { sub: claims.sub, exp: claims.exp });
  }
  return claims.sub;
}

function refused() {
  const body = JSON.stringify({ code: 401, message: "请先登录", error: "unauthenticated" });
  return new Response(body, { status: 401, headers: { "content-type": "application/json", "cache-control": "no-store" } });
}

async function forward(request) {
  const now = Math.floor(Date.now() / 1000);
  const authorization = request.headers.get("authorization") ?? "";
  const subject = authorization.startsWith("Bearer ") ? await user(authorization.slice(7), now) : undefined;
  if (subject === undefined) return refused();
  const url = new URL(request.url);
  const path = url.pathname + url.search;
  const ids = crypto.getRandomValues(new Uint8Array(26));
  const nonce = hex(ids.subarray(0, 16));
  const requestId = hex(ids.subarray(16));
  const clientIp = request.headers.get(settings.clientIp) ?? "";
  const canonical = `farmgate-edge-1\n${request.method}\n${path}\n${now}\n${nonce}\n${EMPTY_HASH}\n${subject}\n${clientIp}\n${requestId}`;
  const signature = await crypto.subtle.sign("HMAC", settings.hmac, encoder.encode(canonical));
  const headers = {
    "x-edge-kid": settings.kid,
    "x-edge-ts": String(now),
    "x-edge-nonce": nonce,
    "x-edge-sig": hex(new Uint8Array(signature)),
    "x-edge-subject": subject,
    "x-request-id": requestId,
  };
  if (clientIp !== "") headers["x-edge-client-ip"] = clientIp;
  for (const name of PASSED_ON) {
    const value = request.headers.get(name);
    if (value !== null) headers[name] = value;
  }
  const answer = await fetch(settings.origin + path, {
    method: request.method,
    headers,
    redirect: "manual",
    signal: AbortSignal.timeout(12_000),
  });
  const back = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-request-id": requestId,
  };
  for (const [name, value] of answer.headers) {
    if (!KEPT_BACK.has(name)) back[name] = value;
  }
  return new Response(answer.body, { status: answer.status, headers: back });
}

export default {
  async fetch(request, env) {
    if (settings === undefined) await (ready ??= load(env));
    return forward(request);
  },
};
