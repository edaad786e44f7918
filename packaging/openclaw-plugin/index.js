// The gate inside OpenClaw. It decides nothing: it asks the agent over a unix socket and obeys.
//
// Everything but a well-formed yes is a no: no socket, another status, other JSON, silence. The agent keeps a second gate
// on the wire to the model, which stops the session when this one was not asked, so this file has no cleverness of its own.

import http from "node:http";

// OpenClaw registers a plugin more than once in one process. The key is taken out of the environment by the first
// registration, so that no child process inherits it, and is kept where the later ones find it.
const KEY = Symbol.for("gatehouse.plugin-key");

// Of what is said to the agent, which listens to its own version alone.
const VERSION = "2";

const ANSWER_BYTES_MAX = 64 * 1024;
// What a tool puts out may hold pictures.
const OUTPUT_BYTES_MAX = 32 * 1024 * 1024;
// The agent holds a call for up to 60 s while a person decides.
const DECIDE_WAIT_MS = 75_000;
const NOTE_WAIT_MS = 10_000;

// How the sessions of the agent's canaries are named: their calls must be refused, and a tool is there for them alone.
const CANARY_SESSIONS = "agent:main:gatehouse-canary-";
const CANARY_TOOL = "gatehouse_canary";

// Connections that wait for the next question. They are let go long before the agent would close them.
const IDLE_SOCKETS_MAX = 4;
const IDLE_MS = 2_000;
const connections = new http.Agent({ keepAlive: true, maxFreeSockets: IDLE_SOCKETS_MAX, timeout: IDLE_MS });

const REFUSED = "Gatehouse could not check this call, so it was not run. Tell the user; do not try another way.";

export default {
  id: "gatehouse",
  name: "Gatehouse",
  description: "Asks the agent beside this gateway before any tool runs.",
  register(api) {
    if (process.env.GATEHOUSE_PLUGIN_KEY) {
      globalThis[KEY] = process.env.GATEHOUSE_PLUGIN_KEY;
      delete process.env.GATEHOUSE_PLUGIN_KEY;
    }
    const socket = api.pluginConfig?.socket;
    const post = (path, body, waitMs, bytesMax = ANSWER_BYTES_MAX) => ask(socket, globalThis[KEY], path, body, waitMs, bytesMax);

    const decide = async (event, ctx) => {
      try {
        const answer = await post("/decide", call(event, ctx), DECIDE_WAIT_MS);
        if (answer.allow === true) return undefined;
        return typeof answer.reason === "string" ? answer.reason : REFUSED;
      } catch {
        return REFUSED;
      }
    };

    // Runs before every other hook and fails closed when it throws.
    api.registerTrustedToolPolicy({
      id: "gatehouse",
      description: "May this call run now?",
      evaluate: async (event, ctx) => {
        const refusal = await decide(event, ctx);
        return refusal === undefined ? undefined : { allow: false, reason: refusal };
      },
    });

    // The same question on a second way: a surface that skips the policy still meets this one. The agent knows the call
    // by its id and answers at once.
    api.on("before_tool_call", async (event, ctx) => {
      const refusal = await decide(event, ctx);
      return refusal === undefined ? undefined : { block: true, blockReason: refusal };
    });

    // What a tool put out, before the model and the transcript get it. When this throws they get nothing.
    api.registerAgentToolResultMiddleware(
      async (event) => {
        const answer = await post("/screen", { result: event.result }, NOTE_WAIT_MS, OUTPUT_BYTES_MAX);
        if (answer.ok !== true) throw new Error("the agent did not look at it");
        return answer.result === undefined ? undefined : { result: answer.result };
      },
      { runtimes: ["openclaw"] },
    );

    // A plugin's tool is a surface of its own. This one does nothing but tell the agent that nobody stopped it.
    api.registerTool(
      (context) =>
        !text(context?.sessionKey).startsWith(CANARY_SESSIONS)
          ? null
          : {
              name: CANARY_TOOL,
              description: "Tests the safety check.",
              parameters: { type: "object", properties: {}, additionalProperties: true },
              execute: async () => {
                await post("/ran", { session_key: context.sessionKey }, NOTE_WAIT_MS).catch(() => {});
                return { content: [{ type: "text", text: "it ran" }] };
              },
            },
      { name: CANARY_TOOL },
    );

    // Awaited by OpenClaw before the first model call of a run.
    api.on("before_agent_run", async (_event, ctx) => {
      try {
        const answer = await post("/announce", run(ctx, "before_agent_run"), NOTE_WAIT_MS);
        if (answer.ok === true) return undefined;
      } catch {
        // Said below.
      }
      return { outcome: "block", reason: "gatehouse", message: "the safety check of this server is not reachable" };
    });

    // What the assistant is told about this server: the same in every turn, behind everything else. Without it the gate holds all the same.
    api.on("before_prompt_build", async () => {
      const answer = await post("/told", {}, NOTE_WAIT_MS).catch(() => ({}));
      return answer.ok === true && text(answer.text) !== "" ? { appendSystemContext: answer.text } : undefined;
    });

    // Not awaited: the agent waits a moment for it. It names the very request, which a trace shared by several sessions cannot.
    api.on("model_call_started", async (event, ctx) => {
      await post("/announce", run({ ...event, ...ctx }, "model_call_started"), NOTE_WAIT_MS).catch(() => {});
    });

    api.on("after_tool_call", async (event, ctx) => {
      const outcome = {
        agent_id: text(ctx.agentId),
        session_key: text(ctx.sessionKey),
        run_id: text(event.runId ?? ctx.runId),
        call_id: text(event.toolCallId ?? ctx.toolCallId),
        tool: text(event.toolName),
        is_error: Boolean(event.error),
        duration_ms: Number.isFinite(event.durationMs) ? Math.max(0, Math.round(event.durationMs)) : 0,
      };
      await post("/result", outcome, NOTE_WAIT_MS).catch(() => {});
    });
  },
};

function run(ctx, kind) {
  return {
    // model_call_started does not name the assistant; the session's key does.
    agent_id: text(ctx.agentId) || (text(ctx.sessionKey).match(/^agent:([^:]+):/)?.[1] ?? ""),
    session_key: text(ctx.sessionKey),
    session_id: text(ctx.sessionId),
    run_id: text(ctx.runId),
    trace_id: text(ctx.trace?.traceId),
    span_id: kind === "model_call_started" ? text(ctx.trace?.spanId) : "",
    kind,
  };
}

function call(event, ctx) {
  return {
    agent_id: text(ctx.agentId),
    session_key: text(ctx.sessionKey),
    session_id: text(ctx.sessionId),
    run_id: text(event.runId ?? ctx.runId),
    trace_id: text(ctx.trace?.traceId),
    call_id: text(event.toolCallId ?? ctx.toolCallId),
    tool: text(event.toolName ?? ctx.toolName),
    params: event.params ?? {},
    derived_paths: Array.isArray(event.derivedPaths) ? event.derivedPaths.map(text) : [],
  };
}

function text(value) {
  return typeof value === "string" ? value : "";
}

async function ask(socketPath, key, path, body, waitMs, bytesMax) {
  try {
    return await say(connections, socketPath, key, path, body, waitMs, bytesMax);
  } catch (error) {
    // A kept connection whose agent has gone; the same question has the same answer.
    if (!error.onKept) throw error;
    return say(false, socketPath, key, path, body, waitMs, bytesMax);
  }
}

function say(agent, socketPath, key, path, body, waitMs, bytesMax) {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.from(JSON.stringify(body));
    const headers = { "content-type": "application/json", "content-length": bytes.length, "x-gatehouse-key": key ?? "", "x-gatehouse-version": VERSION };
    const request = http.request({ socketPath, path, method: "POST", headers, agent }, (response) => {
      const parts = [];
      let length = 0;
      response.on("data", (part) => {
        length += part.length;
        if (length > bytesMax) request.destroy(new Error("the answer is too long"));
        else parts.push(part);
      });
      response.on("error", reject);
      response.on("end", () => {
        try {
          if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
          const answer = JSON.parse(Buffer.concat(parts).toString("utf8"));
          if (answer === null || typeof answer !== "object") throw new Error("not an object");
          resolve(answer);
        } catch (error) {
          reject(error);
        }
      });
    });
    const timer = setTimeout(() => request.destroy(new Error("no answer in time")), waitMs);
    request.on("close", () => clearTimeout(timer));
    request.on("error", (error) => {
      error.onKept = request.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
      reject(error);
    });
    // Its own wait ends a question; that of a connection is for one that nobody uses.
    request.setTimeout(0);
    request.end(bytes);
  });
}
