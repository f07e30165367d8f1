import { text } from 'node:stream/consumers';
import { peerClient } from '@virt-trust/agent/peers/peer-client.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { loadChannelIdentity } from '@virt-trust/channel/identity.ts';
import { PEER_OPERATIONS } from '@virt-trust/contract/agent/peer-operations.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';

/** What a host's agent, or somebody who has its key, asks another; a process of its own in that host's network. */
export interface PeerCalls {
  readonly certificate: string;
  readonly privateKey: string;
  readonly peer: Grant['peer'];
  /** For each address; much where it is to be reached. */
  readonly dialTimeoutMs: number;
  readonly calls: readonly { readonly operation: string; readonly id: string; readonly body?: unknown }[];
}

/** What each call brought: an answer, or the code of its error. */
export type PeerAnswers = readonly { readonly answer?: unknown; readonly error?: string }[];

if (import.meta.main) {
  const { certificate, privateKey, peer, dialTimeoutMs, calls } = JSON.parse(
    await text(process.stdin),
  ) as PeerCalls;
  const identity = loadChannelIdentity({
    role: 'agent',
    certificatePem: certificate,
    privateKeyPem: privateKey,
  });
  const client = peerClient({ peer }, () => identity, { dialTimeoutMs });
  const answers: { answer?: unknown; error?: string }[] = [];
  for (const { operation: name, id, body } of calls) {
    const operation = PEER_OPERATIONS.find((one) => one.id === name);
    if (operation === undefined) throw new Error(`no operation ${name}`);
    try {
      const input = { params: { id }, ...(body === undefined ? {} : { body }) };
      answers.push({ answer: await client.api.call(operation, input as never) });
    } catch (error) {
      answers.push({ error: isTrustError(error) ? error.code : describeError(error) });
    }
  }
  client.close();
  process.stdout.write(JSON.stringify(answers));
}
