// The chat socket: one connection that comes back by itself, with requests that are answered or fail, never hang. What
// it does not do: remember anything to send again; that is the outbox. Limits: a request waits `answerMs`, the first
// frame `helloMs`; a line that was silent for `silenceMs` is asked whether it is still there.

import { backoffMs } from "./backoff.ts";

export interface Life {
  onHello(payload: unknown): void;
  onEvent(event: string, payload: unknown): void;
  /** `retry_ms` is when the next attempt begins, null while one is under way. */
  onState(state: "connecting" | "open" | "lost", retry_ms: number | null): void;
  /** The session is over. */
  onEnd(): void;
  /** Asks the server whether a session still exists; a refused upgrade does not tell a page why. */
  stillWelcome(): Promise<boolean>;
}

export class RequestFailed extends Error {
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

const answerMs = 35_000; // the server gives up after 30 s and says so
const helloMs = 10_000;
const silenceMs = 30_000;
const proofMs = 5_000;
const sessionEnded = 4401;

interface Waiting {
  resolve(payload: unknown): void;
  reject(failure: RequestFailed): void;
  timer: ReturnType<typeof setTimeout>;
}

export class ChatSocket {
  private socket: WebSocket | null = null;
  private greeted = false;
  private ended = false;
  private attempt = 0;
  private nextId = 1;
  private heard_ms = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private helloTimer: ReturnType<typeof setTimeout> | undefined;
  private readonly waiting = new Map<string, Waiting>();

  constructor(private readonly url: string, private readonly life: Life) {}

  start(): void {
    addEventListener("online", () => this.nudge());
    addEventListener("offline", () => this.prove());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.nudge();
    });
    setInterval(() => {
      if (this.greeted && Date.now() - this.heard_ms > silenceMs) this.prove();
    }, proofMs);
    this.connect();
  }

  /** Tries at once when waiting; otherwise makes sure that the open line is not a dead one. */
  nudge(): void {
    if (this.ended) return;
    if (this.socket === null) this.connect();
    else if (this.greeted) this.prove();
  }

  end(): void {
    this.ended = true;
    clearTimeout(this.retryTimer);
    this.socket?.close(1000);
  }

  request<Payload>(method: string, params: unknown, deadline_ms = answerMs): Promise<Payload> {
    const socket = this.socket;
    if (socket === null || !this.greeted) return Promise.reject(new RequestFailed("link_lost", ""));
    const id = `r${this.nextId++}`;
    return new Promise<Payload>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new RequestFailed("timeout", ""));
      }, deadline_ms);
      this.waiting.set(id, { resolve: resolve as (payload: unknown) => void, reject, timer });
      socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  private connect(): void {
    clearTimeout(this.retryTimer);
    this.life.onState("connecting", null);
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.helloTimer = setTimeout(() => this.drop(socket), helloMs);
    socket.onmessage = (message) => {
      if (this.socket === socket) this.hear(message.data);
    };
    socket.onclose = (closed) => {
      if (this.socket === socket) this.lose(closed.code);
    };
  }

  private hear(data: unknown): void {
    this.heard_ms = Date.now();
    let frame: { type?: string; id?: string; ok?: boolean; event?: string; payload?: unknown; error?: { code?: string; message?: string } };
    try {
      frame = JSON.parse(String(data)) as typeof frame;
    } catch {
      return;
    }
    if (frame.type === "res" && typeof frame.id === "string") {
      const waiting = this.waiting.get(frame.id);
      if (waiting === undefined) return;
      this.waiting.delete(frame.id);
      clearTimeout(waiting.timer);
      if (frame.ok === true) waiting.resolve(frame.payload);
      else waiting.reject(new RequestFailed(frame.error?.code ?? "unknown", frame.error?.message ?? ""));
    } else if (frame.type === "event" && frame.event === "hello") {
      clearTimeout(this.helloTimer);
      this.greeted = true;
      this.attempt = 0;
      this.life.onState("open", null);
      this.life.onHello(frame.payload);
    } else if (frame.type === "event" && typeof frame.event === "string" && this.greeted) {
      this.life.onEvent(frame.event, frame.payload);
    }
  }

  private prove(): void {
    const socket = this.socket;
    if (socket === null || !this.greeted) return;
    this.request("usage.today", {}, proofMs).catch((failure: RequestFailed) => {
      if (failure.code === "timeout") this.drop(socket);
    });
  }

  // close() on a dead line waits for the other side; the page must not.
  private drop(socket: WebSocket): void {
    if (this.socket !== socket) return;
    socket.close();
    this.lose(1006);
  }

  private lose(code: number): void {
    const greeted = this.greeted;
    this.socket = null;
    this.greeted = false;
    clearTimeout(this.helloTimer);
    for (const waiting of this.waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(new RequestFailed("link_lost", ""));
    }
    this.waiting.clear();
    if (this.ended) return;
    if (code === sessionEnded) {
      this.ended = true;
      this.life.onEnd();
      return;
    }
    const delay_ms = backoffMs(this.attempt++, Math.random());
    this.life.onState("lost", Date.now() + delay_ms);
    this.retryTimer = setTimeout(() => this.connect(), delay_ms);
    if (!greeted) void this.askWelcome();
  }

  private async askWelcome(): Promise<void> {
    if ((await this.life.stillWelcome()) || this.ended) return;
    this.ended = true;
    clearTimeout(this.retryTimer);
    this.life.onEnd();
  }
}
