import type { TLSSocket } from 'node:tls';
import { TrustError } from '@virt-trust/base/error.ts';

/** The one octet that a relay sends before a stream's own: its QEMU has the connection. */
const READY = 1;

/** Told once the destination's QEMU took the connection, and before anything of QEMU's. */
export function sayReady(stream: TLSSocket): void {
  stream.write(Uint8Array.of(READY));
}

/** Waits until the relay says that its QEMU has the connection, and takes no octet after that. Throws `relay.not_ready`. */
export function hearReady(stream: TLSSocket, timeoutMs: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const end = (reason?: string) => {
    clearTimeout(timer);
    stream.off('readable', look).off('error', onError).off('end', onEnd).off('close', onEnd);
    if (reason === undefined) {
      resolve();
      return;
    }
    stream.destroy();
    reject(notReady(reason));
  };
  const look = () => {
    const octet: Buffer | null = stream.read(1);
    if (octet !== null) end(octet[0] === READY ? undefined : 'it says something else');
  };
  const onError = (error: Error) => end(error.message);
  const onEnd = () => end('it closed the connection, as it does where its QEMU is gone');
  const timer = setTimeout(() => end('no answer'), timeoutMs);
  stream.on('readable', look).on('error', onError).on('end', onEnd).on('close', onEnd);
  return promise;
}

function notReady(reason: string): TrustError {
  return new TrustError(
    'relay.not_ready',
    'unavailable',
    `cannot pass a stream on to the other host's QEMU: ${reason}`,
    { hint: 'See on the destination what its QEMU says: /var/log/libvirt/qemu/VM.log' },
  );
}
