import { createHash } from 'node:crypto';
import type { SshHostKey } from '@virt-trust/contract/model/ssh.ts';

/** An SSH host key as a known_hosts line has it. */
export interface KnownHostKey extends SshHostKey {
  /** `algorithm base64`. */
  readonly key: string;
}

const ALGORITHM = /^(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]{1,80}$/;

/** Reads the keys of a known_hosts file that ssh wrote for us; comments, markers and what is not a key are passed over. */
export function parseKnownHosts(text: string): KnownHostKey[] {
  const keys: KnownHostKey[] = [];
  for (const line of text.slice(0, 65_536).split('\n')) {
    const [host, algorithm, base64] = line.trim().split(/\s+/);
    if (host === undefined || host.startsWith('#') || host.startsWith('@')) continue;
    if (algorithm === undefined || base64 === undefined || !ALGORITHM.test(algorithm)) continue;
    if (!/^[A-Za-z0-9+/]{16,4096}={0,2}$/.test(base64)) continue;
    keys.push({ algorithm, key: `${algorithm} ${base64}`, fingerprint: sshFingerprint(base64) });
  }
  return keys;
}

/** The fingerprint of a key as ssh-keygen prints it: `SHA256:` and unpadded base64. */
function sshFingerprint(base64: string): string {
  return `SHA256:${createHash('sha256').update(Buffer.from(base64, 'base64')).digest('base64').replace(/=+$/, '')}`;
}
