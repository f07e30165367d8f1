import { decodeReply, encodeCall, PROCEDURES, RpcPacketReader } from '@virt-trust/libvirt/rpc.ts';
import { type ProbeTarget, runAttempt } from './attempt.ts';
import { dial, readChunk } from './socket.ts';

const TIMEOUT_MS = 5000;

/** Whether libvirt's RPC answers there without TLS: asked AUTH_LIST, which changes nothing. */
export async function findPlainLibvirt(
  { host, port }: Pick<ProbeTarget, 'host' | 'port'>,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    return await runAttempt({ host, port, timeoutMs: TIMEOUT_MS, signal }, async (attempt) => {
      const socket = await dial(attempt);
      socket.write(encodeCall(PROCEDURES.authList, 1));
      const reader = new RpcPacketReader();
      for (;;) {
        const chunk = await readChunk(socket);
        if (chunk === undefined) return false;
        for (const packet of reader.push(chunk))
          return decodeReply(packet, PROCEDURES.authList, 1).kind !== 'unrelated';
      }
    });
  } catch {
    return false;
  }
}
