import { join } from 'node:path';
import type { Instant } from '@virt-trust/base/instant.ts';
import { lineOf } from '@virt-trust/check/host/text.ts';
import { readFileState } from '@virt-trust/check/reader.ts';
import { QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import { type FileState, judgeOwnSet } from '@virt-trust/libvirt/own-set.ts';

/** QEMU's own files for migrations as QEMU would judge them now. */
export interface NativeTls {
  /** What QEMU would refuse, for people; empty where it takes them. */
  readonly lacks: string;
  /** When the passing of time alone may change that. */
  readonly until: Instant | null;
}

/** Where QEMU looks for its certificates, and who it is. */
export interface NativeTlsQuestion {
  /** Where a path of the host lies. */
  readonly at: (hostPath: string) => string;
  readonly directory: string;
  readonly qemuVersion: string;
  readonly now: Instant;
  /** Which of the files the QEMU user can read. */
  readonly readable: (files: readonly string[]) => Promise<ReadonlySet<string>>;
}

/** The files of a directory for migrations, as the destination serves and as the source presents them. */
export function migrationFiles(directory: string): string[] {
  const { caCertificate, crl, serverCertificate, serverKey, clientCertificate, clientKey } = QEMU_FILE_NAMES;
  return [caCertificate, crl, serverCertificate, serverKey, clientCertificate, clientKey].map((name) =>
    join(directory, name),
  );
}

/** Judges both ends of a host's migrations: a server without a key, or a client without certificate, has no native TLS. */
export async function lookAtNativeTls(question: NativeTlsQuestion): Promise<NativeTls> {
  const { at, directory, qemuVersion, now, readable } = question;
  const files = migrationFiles(directory);
  const theirs = await readable(files.map(at));
  const states = await Promise.all(
    files.map(async (file): Promise<FileState> => {
      const state = await readFileState(at(file));
      if (state.kind !== 'text' || theirs.has(at(file))) return state;
      return { kind: 'unreadable', reason: 'the QEMU user may not' };
    }),
  );
  const missing: FileState = { kind: 'missing' };
  const [ca = missing, crl = missing, certificate = missing, key = missing, ownCertificate, ownKey] = states;
  const checker = { program: 'qemu', version: qemuVersion } as const;
  const lacks: string[] = [];
  const changes: Instant[] = [];
  for (const [role, end] of [
    ['server', { certificate, key }],
    ['client', { certificate: ownCertificate ?? missing, key: ownKey ?? missing }],
  ] as const) {
    const judged = judgeOwnSet({ ca, crl, ...end, dhParameters: missing }, role, checker, now);
    for (const one of [...judged.authorities, ...judged.certificates])
      changes.push(...[one.notBefore, one.notAfter].filter((time) => time > now));
    const error = judged.findings.find(({ severity }) => severity === 'error');
    if (error !== undefined) lacks.push(error.message);
    else if (role === 'client' && end.certificate.kind === 'missing')
      lacks.push(
        'there is no client certificate, without which the other host refuses this one as the source',
      );
  }
  const [first] = lacks;
  return {
    lacks: first === undefined ? '' : lineOf(`${first} (${directory})`),
    until: changes.length === 0 ? null : (Math.min(...changes) as Instant),
  };
}
