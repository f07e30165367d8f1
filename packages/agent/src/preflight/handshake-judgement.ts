import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { reasonOf } from '@virt-trust/connect/client-refusal.ts';
import type { TlsEvidence } from '@virt-trust/connect/tls-handshake.ts';
import type { PreflightHandshake } from '@virt-trust/contract/model/preflight.ts';
import { clean, type FindingList } from './finding-list.ts';

/** A handshake that was made, by whom with whom. */
export interface Attempted {
  readonly service: PreflightHandshake['service'];
  readonly from: string;
  readonly to: string;
  /** Address and port. */
  readonly target: string;
  /** The name that was verified. */
  readonly verified: string;
  /** Towards where the VM goes; back, it shows what a migration back would meet. */
  readonly isBack: boolean;
}

type Outcome = PreflightHandshake['outcome'];

/** How to say and mend what a failed handshake stands for; `{to}` is who was reached. */
interface Meaning {
  readonly code: string;
  readonly outcome: Outcome;
  readonly fix: (attempted: Attempted) => string;
}

const provision = ({ to }: Attempted) => `virt-trust host provision ${to}`;

const MEANINGS = {
  refused_port: {
    code: 'port.closed',
    outcome: 'unreachable',
    fix: ({ to, target, service }) =>
      service === 'libvirt' && target.endsWith(':16509')
        ? `libvirt of ${to} does not listen without TLS; better than switching that on is one of the other modes: ${provisionText(to)}`
        : `see on ${to} what listens (ss -ltnp), and bring it right: ${provisionText(to)}`,
  },
  filtered: {
    code: 'port.filtered',
    outcome: 'unreachable',
    fix: ({ from, to, target }) =>
      `let ${target} through between ${from} and ${to}: on ${to} virt-trust host provision ${to} opens its own firewall; look at firewalls on the way`,
  },
  no_route: {
    code: 'network.unreachable',
    outcome: 'unreachable',
    fix: ({ from, target }) => `see the way from ${from}: ip route get ${target.replace(/:\d+$/, '')}`,
  },
  name: {
    code: 'name.mismatch',
    outcome: 'refused',
    fix: (attempted) =>
      `give it a certificate with that name: virt-trust host set-address ${attempted.to} --add ${attempted.verified}, then ${provision(attempted)}`,
  },
  expired: {
    code: 'certificate.expired',
    outcome: 'refused',
    fix: (one) => `renew it: ${provision(one)} --renew`,
  },
  not_yet_valid: {
    code: 'certificate.not_yet_valid',
    outcome: 'refused',
    fix: ({ from, to }) =>
      `set the clocks of ${from} and ${to} right (timedatectl set-ntp true), or issue it again: virt-trust host provision ${to} --renew`,
  },
  revoked: {
    code: 'crl.revoked',
    outcome: 'refused',
    fix: ({ to }) =>
      `do not migrate there; once ${to} can be trusted again: virt-trust host provision ${to}, which gives it new certificates`,
  },
  wrong_purpose: {
    code: 'certificate.purpose',
    outcome: 'refused',
    fix: (one) => `have it issued for a TLS server: ${provision(one)} --renew`,
  },
  untrusted: {
    code: 'trust.untrusted',
    outcome: 'refused',
    fix: ({ from, to }) =>
      `bring both to one authority: virt-trust host provision ${from}; virt-trust host provision ${to}`,
  },
  not_tls: {
    code: 'handshake.failed',
    outcome: 'refused',
    fix: ({ to, service }) =>
      service === 'libvirt'
        ? `see the daemon's log on ${to}: journalctl -u libvirtd -u virtproxyd`
        : `see what the agent on ${to} says: journalctl -u virt-trust-agent`,
  },
  qemu: {
    code: 'handshake.failed',
    outcome: 'refused',
    fix: ({ from, to }) =>
      `see what is wrong with QEMU's files: virt-trust check on ${from} and on ${to}; bring them right: virt-trust host provision ${from}; virt-trust host provision ${to}`,
  },
} as const satisfies Record<string, Meaning>;

function provisionText(to: string): string {
  return `virt-trust host provision ${to}`;
}

/** What a failed handshake stands for. */
function meaningOf(error: unknown, { service }: Attempted): Meaning {
  if (!isTrustError(error)) return MEANINGS.not_tls;
  const cause = isTrustError(error.cause) ? error.cause : undefined;
  switch (error.code) {
    case 'probe.connect':
      return unreached(error);
    case 'probe.name':
      return MEANINGS.name;
    case 'probe.chain':
      return refused(cause?.code ?? '');
    default:
      return service === 'migration' ? MEANINGS.qemu : MEANINGS.not_tls;
  }
}

function unreached({ cause }: TrustError): Meaning {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'ECONNREFUSED') return MEANINGS.refused_port;
  if (code === 'EHOSTUNREACH' || code === 'ENETUNREACH' || code === 'EADDRNOTAVAIL') return MEANINGS.no_route;
  return MEANINGS.filtered;
}

function refused(code: string): Meaning {
  if (code.endsWith('.not_yet_valid')) return MEANINGS.not_yet_valid;
  switch (reasonOf(code)) {
    case 'date':
      return MEANINGS.expired;
    case 'revoked':
      return MEANINGS.revoked;
    case 'name':
      return MEANINGS.name;
    case 'wrong_purpose':
      return MEANINGS.wrong_purpose;
    case 'chain':
      return MEANINGS.untrusted;
  }
}

/** A handshake that came about, as it is reported. */
export function goodHandshake(
  attempted: Attempted,
  seen: Pick<TlsEvidence, 'servedCertificate'>['servedCertificate'] | null,
  detail: string,
): PreflightHandshake {
  return { ...reported(attempted), outcome: 'good', ...served(seen), detail: clean(detail) };
}

/** A handshake that did not, with what it means added to the findings. */
export function badHandshake(
  attempted: Attempted,
  error: unknown,
  seen: TlsEvidence['servedCertificate'] | null,
  list: FindingList,
): PreflightHandshake {
  const meaning = meaningOf(error, attempted);
  const detail = clean(error instanceof Error ? error.message : String(error));
  const { from, to, target, isBack, verified } = attempted;
  const fails = isBack ? `a migration back, from ${to} to ${from}, would fail` : 'the migration would fail';
  const until =
    seen === null
      ? ''
      : `; served is ${seen.subject}, ${seen.serialNumber}, until ${formatInstant(seen.notAfter as Instant)}`;
  list.add(
    meaning.code === 'crl.revoked' ? 'unsafe' : isBack ? 'warning' : 'error',
    meaning.code,
    `${from} cannot use ${SERVICES[attempted.service]} of ${to} at ${target}${verified.startsWith('(') ? '' : ` as ${verified}`}: ${detail.replace(/^cannot probe \S+ port \d+: /, '')}${until}: ${fails}`,
    meaning.fix(attempted),
    to,
  );
  return { ...reported(attempted), outcome: meaning.outcome, ...served(seen), detail };
}

const SERVICES: Readonly<Record<PreflightHandshake['service'], string>> = {
  libvirt: 'libvirt',
  migration: "QEMU's stream",
  peer: 'the agent',
};

function reported({ service, from, to, target, verified }: Attempted) {
  return { service, from, to, target, verified };
}

function served(seen: TlsEvidence['servedCertificate'] | null) {
  return seen === null
    ? { servedPin: null, serialNumber: null, notAfter: null }
    : { servedPin: seen.pin, serialNumber: seen.serialNumber, notAfter: seen.notAfter };
}
