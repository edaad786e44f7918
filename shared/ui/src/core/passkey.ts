// Passkeys: made for the tenant's own host, and asked to prove one text at a time. The challenge is the text's hash, so an
// assertion is good for that text only. A new passkey is asked at once: only that shows that it works and knows its person.

import { base64url, bytes, candidateText, fromBase64url, type Candidate, type Proof } from "./signing.ts";
import type { Person } from "./wire.ts";

const waitMs = 120_000;
const es256 = -7;

export function canPasskey(): boolean {
  return globalThis.PublicKeyCredential !== undefined;
}

/** `ticketFor` gives what lets the new key in, once the key is known. */
export async function newPasskey<Ticket>(person: Person, name: string, ticketFor: (key: string) => Promise<{ text: string; ticket: Ticket }>): Promise<{ candidate: Candidate; ticket: Ticket }> {
  const made = (await navigator.credentials.create({
    publicKey: {
      challenge: crypto.getRandomValues(new Uint8Array(32)),
      rp: { id: location.hostname, name: "Gatehouse" },
      user: { id: bytes(person.id), name: person.name, displayName: person.name },
      pubKeyCredParams: [{ type: "public-key", alg: es256 }],
      authenticatorSelection: { userVerification: "required", residentKey: "preferred" },
      attestation: "none",
      timeout: waitMs,
    },
  })) as PublicKeyCredential;
  const spki = (made.response as AuthenticatorAttestationResponse).getPublicKey();
  if (spki === null) throw new DOMException("no key", "NotSupportedError");
  const key = base64url(spki);
  const credential = base64url(made.rawId);
  const { text, ticket } = await ticketFor(key);
  return { candidate: { name, kind: "passkey", public_key: key, credential, proof: await assert([credential], candidateText(text, key)).then((asserted) => asserted.proof) }, ticket };
}

/** Which of these passkeys answered is known only afterwards, so the text must not name one; with one it may. */
export async function assert(credentials: readonly string[], text: string): Promise<{ credential: string; proof: Proof }> {
  const given = (await navigator.credentials.get({
    publicKey: {
      challenge: await crypto.subtle.digest("SHA-256", bytes(text)),
      rpId: location.hostname,
      allowCredentials: credentials.map((id) => ({ type: "public-key", id: fromBase64url(id) })),
      userVerification: "required",
      timeout: waitMs,
    },
  })) as PublicKeyCredential;
  const said = given.response as AuthenticatorAssertionResponse;
  return {
    credential: base64url(given.rawId),
    proof: { kind: "passkey", authenticator_data: base64url(said.authenticatorData), client_data: base64url(said.clientDataJSON), signature: base64url(said.signature) },
  };
}
