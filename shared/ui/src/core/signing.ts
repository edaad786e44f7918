// This browser's own key: made here, kept here, and never given out, not even to this page. What it signs counts as its
// person's word. What is signed is a text in one spelling; the server reads exactly the bytes that were signed.
// Where a page has no secure connection the browser offers no keys; then it cannot be set up.

export interface Proof {
  kind: "key" | "passkey";
  signature: string;
  authenticator_data?: string;
  client_data?: string;
}

export interface Candidate {
  name: string;
  kind: "key" | "passkey";
  public_key: string;
  credential?: string;
  proof: Proof;
}

/** What this browser keeps for a person. */
export interface Kept {
  person: string;
  device: string;
  key: CryptoKey;
}

const curve = { name: "ECDSA", namedCurve: "P-256" } as const;
const hash = { name: "ECDSA", hash: "SHA-256" } as const;

export function canSign(): boolean {
  return globalThis.crypto?.subtle !== undefined && globalThis.indexedDB !== undefined;
}

export function makeKey(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(curve, false, ["sign", "verify"]);
}

export async function publicKey(pair: CryptoKeyPair): Promise<string> {
  return base64url(await crypto.subtle.exportKey("spki", pair.publicKey));
}

/** A new key as it comes in by a ticket: the owner's link, a code, or the word of a device. */
export async function candidate(pair: CryptoKeyPair, ticket: string): Promise<Candidate> {
  const key = await publicKey(pair);
  return { name: browserName(), kind: "key", public_key: key, proof: await prove(pair.privateKey, candidateText(ticket, key)) };
}

export function candidateText(ticket: string, key: string): string {
  return `gatehouse-device-v1\n${location.origin}\n${ticket}\n${key}`;
}

export async function prove(key: CryptoKey, text: string): Promise<Proof> {
  return { kind: "key", signature: base64url(await crypto.subtle.sign(hash, key, bytes(text))) };
}

export function bytes(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

export function base64url(buffer: ArrayBuffer): string {
  let text = "";
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function fromBase64url(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

/** How a person finds this browser again in a list. */
function browserName(): string {
  const agent = navigator.userAgent;
  const which = [["Edg/", "Edge"], ["OPR/", "Opera"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]].find(([mark]) => agent.includes(mark!))?.[1] ?? "Browser";
  const where = ["Android", "iPhone", "iPad", "Windows", "Mac", "Linux"].find((name) => agent.includes(name));
  return where === undefined ? which : `${which} · ${where}`;
}

export async function keep(kept: Kept): Promise<void> {
  await withStore("readwrite", (store) => store.put(kept));
}

export async function forget(person: string): Promise<void> {
  await withStore("readwrite", (store) => store.delete(person));
}

export async function kept(person: string): Promise<Kept | null> {
  return (await withStore<Kept | undefined>("readonly", (store) => store.get(person))) ?? null;
}

const name = "keys";

function withStore<Found>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest): Promise<Found> {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("gatehouse", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(name, { keyPath: "person" });
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction(name, mode);
      const request = work(transaction.objectStore(name));
      transaction.oncomplete = () => {
        opening.result.close();
        resolve(request.result as Found);
      };
      transaction.onabort = () => reject(transaction.error);
    };
  });
}
