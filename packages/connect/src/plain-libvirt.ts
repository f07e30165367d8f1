import {
  CONNECT_READ_ONLY,
  decodeAuthList,
  decodeHostname,
  decodeLibVersion,
  decodeReply,
  encodeCall,
  encodeConnectOpen,
  PROCEDURES,
  RpcPacketReader,
} from '@virt-trust/libvirt/rpc.ts';
import { type ProbeTarget, runAttempt } from './attempt.ts';
import { RpcSession } from './probe-libvirt.ts';
import { dial, readChunk } from './socket.ts';

/** Whether libvirt's RPC answers there without TLS: asked AUTH_LIST, which changes nothing. */
export async function findPlainLibvirt(target: ProbeTarget): Promise<boolean> {
  try {
    return await runAttempt(target, async (attempt) => {
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

/** Asks a libvirt that listens without TLS who it is, over a connection that changes nothing. Throws `probe.*`. */
export function askPlainLibvirt(
  target: ProbeTarget,
): Promise<{ readonly hostName: string; readonly version: string }> {
  return runAttempt(target, async (attempt) => {
    const socket = await dial(attempt);
    attempt.step = 'auth_list';
    const rpc = new RpcSession(attempt, socket);
    const ways = decodeAuthList(await rpc.call(PROCEDURES.authList));
    if (!ways.includes('none'))
      throw attempt.failure(`it demands ${ways.join(' or ')} of whoever connects without TLS (auth_tcp)`);
    attempt.step = 'hostname';
    await rpc.call(PROCEDURES.connectOpen, encodeConnectOpen('qemu:///system', CONNECT_READ_ONLY));
    const hostName = decodeHostname(await rpc.call(PROCEDURES.connectGetHostname));
    const version = decodeLibVersion(await rpc.call(PROCEDURES.connectGetLibVersion));
    await rpc.call(PROCEDURES.connectClose);
    return { hostName, version };
  });
}
