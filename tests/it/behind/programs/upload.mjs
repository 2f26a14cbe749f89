// An upload with one of the HTTP clients of node: upload.mjs URL FILE PIECE http|fetch
import fs from "node:fs";
import http from "node:http";

const [url, file, piece, client] = [new URL(process.argv[2]), process.argv[3], Number(process.argv[4]), process.argv[5]];
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function byHttp(headers, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "BITS_POST", headers, agent }, (answer) => {
      answer.resume().on("end", () => resolve([answer.statusCode, answer.headers]));
    });
    request.on("error", reject).end(body);
  });
}

async function byFetch(headers, body) {
  const answer = await fetch(url, { method: "BITS_POST", headers, body });
  await answer.arrayBuffer();
  return [answer.status, Object.fromEntries(answer.headers)];
}

async function packet(kind, fields, body) {
  const send = client === "fetch" ? byFetch : byHttp;
  const [status, headers] = await send({ "BITS-Packet-Type": kind, ...fields }, body);
  if (status !== 200) throw new Error(`${kind}: ${status} ${JSON.stringify(headers)}`);
  return headers;
}

const created = await packet("Create-Session", { "BITS-Supported-Protocols": "{7df0354d-249b-430f-820d-3d2a9bef4931}" });
const session = { "BITS-Session-Id": created["bits-session-id"] };
if (created["bits-host-id"]) url.hostname = created["bits-host-id"];
const content = fs.readFileSync(file);
for (let first = 0; first < content.length; first += piece) {
  const body = content.subarray(first, first + piece);
  const range = `bytes ${first}-${first + body.length - 1}/${content.length}`;
  await packet("Fragment", { ...session, "Content-Range": range }, body);
}
await packet("Close-Session", session);
agent.destroy();
