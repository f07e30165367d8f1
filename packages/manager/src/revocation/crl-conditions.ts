import { formatInstant, type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Purpose, Service } from '@virt-trust/contract/model/service.ts';
import type { Condition } from '../alarms/condition.ts';
import type { Crl } from './crl.ts';
import type { RecoveryProgress } from './crl-recovery.ts';
import { HOST_ENTRIES, HOST_ENTRIES_WARNING } from './host-form.ts';

/** What alarms about CRLs are decided from. */
export interface CrlFacts {
  readonly now: Instant;
  /** How far a restored manager has come in asking its hosts, as long as it holds CRLs back. */
  readonly held: RecoveryProgress | null;
  /** Of its time after which a CRL is signed anew. */
  readonly refreshPercent: number;
  /** Why the last signing failed. */
  readonly signingFailure: string | null;
  readonly crls: readonly (Pick<
    Crl,
    'authority' | 'number' | 'thisUpdate' | 'nextUpdate' | 'entries' | 'hostEntries'
  > & { readonly purpose: Purpose })[];
  readonly hosts: readonly {
    readonly name: string;
    readonly up: boolean;
    /** Of each purpose that it serves; null where it was brought none. */
    readonly held: readonly {
      readonly purpose: Purpose;
      readonly crl: {
        readonly number: number;
        readonly nextUpdate: Instant;
        readonly failure: string | null;
      } | null;
    }[];
    readonly servedRevoked: readonly {
      readonly service: Service;
      readonly serialNumber: string;
      readonly reason: string;
      readonly at: Instant;
    }[];
  }[];
}

/** So long the newest CRL may be on its way before anybody is told. */
const ON_ITS_WAY = MINUTE;

/** What is wrong with CRLs and revoked certificates now; pure. */
export function crlConditions(facts: CrlFacts): Condition[] {
  return [
    ...heldBack(facts),
    // As long as CRLs are held back none is published.
    ...facts.crls.flatMap((crl) => [
      ...(facts.held === null ? stalePublished(crl, facts) : []),
      ...tooLong(crl),
    ]),
    ...facts.hosts.flatMap((host) => [
      ...host.held.flatMap((one) => ofHost(host, one, facts)),
      ...host.servedRevoked.map((served) => revokedServed(host.name, served)),
    ]),
  ];
}

type CrlFact = CrlFacts['crls'][number];
type HostFact = CrlFacts['hosts'][number];

/** Half of the time is over in which the next one should have been signed, or brought. */
function isNearEnd(crl: { readonly nextUpdate: Instant }, lifetime: number, facts: CrlFacts): boolean {
  return crl.nextUpdate - facts.now < (lifetime * (100 - facts.refreshPercent)) / 200;
}

function heldBack({ held, now }: CrlFacts): Condition[] {
  if (held === null || now - held.since <= ON_ITS_WAY) return [];
  return [
    {
      kind: 'crl-held',
      subject: 'CRLs after the restore',
      host: null,
      severity: 'critical',
      message: `no CRL is signed or published and OCSP answers tryLater: of ${held.hosts} hosts ${held.heard} were asked what was revoked since the backup`,
      action:
        'bring the others up (virt-trust host list) or remove them; to go on without them: virt-trust crl refresh',
    },
  ];
}

function stalePublished(crl: CrlFact, facts: CrlFacts): Condition[] {
  const { now, signingFailure } = facts;
  const failing = signingFailure?.startsWith(`${crl.authority}: `) === true ? signingFailure : null;
  if (failing === null && !isNearEnd(crl, crl.nextUpdate - crl.thisUpdate, facts)) return [];
  const past = now > crl.nextUpdate;
  return [
    {
      kind: 'crl-stale',
      subject: `CRL of authority ${crl.authority}`,
      host: null,
      severity: past ? 'critical' : 'warning',
      message: `the CRL of authority ${crl.authority} ${past ? 'was due to be replaced' : 'has to be replaced'} by ${formatInstant(crl.nextUpdate)}${failing === null ? '' : `; it could not be signed: ${failing}`}`,
      action: "look at the manager's log, then: virt-trust crl refresh",
    },
  ];
}

function tooLong(crl: CrlFact): Condition[] {
  if (crl.entries < HOST_ENTRIES_WARNING) return [];
  const cut = crl.entries > crl.hostEntries;
  return [
    {
      kind: 'crl-size',
      subject: `CRL of authority ${crl.authority}`,
      host: null,
      severity: cut ? 'critical' : 'warning',
      message: cut
        ? `the CRL of authority ${crl.authority} has more entries than the ${HOST_ENTRIES} that QEMU can bear: hosts get the most important ones, and do not refuse the others`
        : `the CRL of authority ${crl.authority} comes near the ${HOST_ENTRIES} entries that QEMU can bear`,
      action:
        'entries leave once their certificates have expired: make lifetimes shorter (virt-trust setting set certificate.lifetime), and revoke for compromise alone',
    },
  ];
}

function ofHost(host: HostFact, { purpose, crl }: HostFact['held'][number], facts: CrlFacts): Condition[] {
  const newest = facts.crls.find((candidate) => candidate.purpose === purpose);
  if (newest === undefined) return [];
  const subject = `CRL for ${purpose} on host ${host.name}`;
  const common = { subject, host: host.name } as const;
  const conditions: Condition[] = [];
  if (crl !== null && isNearEnd(crl, newest.nextUpdate - newest.thisUpdate, facts)) {
    const past = facts.now > crl.nextUpdate;
    conditions.push({
      ...common,
      kind: 'crl-stale',
      severity: past ? 'critical' : 'warning',
      message: `the CRL that host ${host.name} has for ${purpose} ${past ? 'was' : 'is'} good until ${formatInstant(crl.nextUpdate)}`,
      action: host.up
        ? 'virt-trust crl refresh'
        : `bring host ${host.name} up, or remove it: virt-trust host remove ${host.name} --force`,
    });
  }
  const behind = crl === null || crl.number < newest.number;
  const failure = crl?.failure ?? null;
  if ((behind && facts.now - newest.thisUpdate > ON_ITS_WAY) || failure !== null) {
    const why = failure ?? (host.up ? 'it was not taken' : 'its channel is down');
    conditions.push({
      ...common,
      kind: 'crl-behind',
      severity: host.up ? 'critical' : 'warning',
      message: `host ${host.name} does not go by the newest CRL for ${purpose}, and may let in what was revoked: ${why}`,
      action: host.up
        ? 'virt-trust crl refresh says what is wrong there'
        : `it gets it once it is back; cut it off from the others as long as that is not certain`,
    });
  }
  return conditions;
}

function revokedServed(host: string, served: HostFact['servedRevoked'][number]): Condition {
  return {
    kind: 'revoked-served',
    subject: `${served.service} of host ${host}`,
    host,
    severity: 'critical',
    message: `host ${host} serves certificate ${served.serialNumber} for ${served.service}, which was revoked for ${served.reason} at ${formatInstant(served.at)}`,
    action: `once the host is trustworthy: virt-trust host provision ${host} --renew; else take it off the network`,
  };
}
