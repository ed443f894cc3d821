// Reports sign-in attempts to authspike: in batches, in the background, at most 10,000 waiting. For Node 18 and later (Express, Next.js).
import { randomUUID } from "node:crypto";

const QUEUE_MAX = 10_000, BATCH = 500, EVERY_MS = 1000;
let queue = [], sending = false;
export let dropped = 0; // for your own metrics

// Call after every attempt. It returns at once, and neither delays nor breaks the sign-in.
export function reportAttempt({ identifier, ip, userAgent, error }) {
  if (queue.length >= QUEUE_MAX) return void dropped++;
  const code = error?.errors?.[0]?.code;
  queue.push({
    id: randomUUID(),
    occurred_at: Date.now(),
    ...(error ? { outcome: code ? undefined : "failure", reason: code } : { outcome: "success" }),
    ip,
    identifier,
    user_agent: userAgent,
  });
}

async function send() {
  if (sending || queue.length === 0) return;
  sending = true;
  const batch = queue.slice(0, BATCH);
  try {
    const answer = await fetch(`${process.env.ATTEMPTS_URL}/v1/attempts`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${process.env.AUTHSPIKE_ATTEMPTS_TOKEN}`,
        "content-type": "application/json",
      },
      body: JSON.stringify(batch),
      signal: AbortSignal.timeout(5000),
    });
    // 503 and 429 pass by themselves and the ids make a repeat harmless; other refusals would be refused again.
    if (answer.ok || (answer.status < 500 && answer.status !== 429)) queue = queue.slice(batch.length);
    if (!answer.ok) console.warn(`authspike answered ${answer.status}`);
  } catch {
    // Not reachable: the next round tries again.
  }
  sending = false;
}
setInterval(send, EVERY_MS).unref?.();
