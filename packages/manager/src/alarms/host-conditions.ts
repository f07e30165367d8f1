import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import type { Condition } from './condition.ts';
import { Deadlines, type ExpiryThresholds, expirySeverity } from './expiry.ts';
import type { CredentialFact, HostFacts } from './host-facts.ts';
import { refusedConditions } from './refused-conditions.ts';

/** A CRL's own lifetime decides: it is signed anew long before these parts of it are left. */
const CRL_THRESHOLDS: ExpiryThresholds = {
  warning: { before: Number.POSITIVE_INFINITY, percent: 25 },
  critical: { before: Number.POSITIVE_INFINITY, percent: 5 },
};
/** Of many places where the same is wrong, this many are named. */
const NAMED = 5;

/** What is wrong with a host, and when to look again although nothing changes (Infinity for never); pure. */
export function conditionsOf(facts: HostFacts, now: Instant): { conditions: Condition[]; next: number } {
  const deadlines = new Deadlines(now);
  if (facts.state === 'removing') return { conditions: [], next: deadlines.next };
  const conditions = [
    ...unreachable(facts, deadlines),
    ...failed(facts),
    ...facts.credentials.flatMap((credential) => expiring(facts, credential, deadlines)),
    ...rescued(facts),
    ...staleCrls(facts, deadlines),
    ...refusedConditions(facts),
    ...SERVICES.flatMap((service) => [
      ...drifting(facts, service, deadlines),
      ...contested(facts, service),
      ...awaitingRestart(facts, service),
    ]),
  ];
  return { conditions, next: deadlines.next };
}

function unreachable({ name, channel, thresholds }: HostFacts, deadlines: Deadlines): Condition[] {
  if (channel.kind === 'up') return [];
  const since = channel.kind === 'down' ? channel.since : null;
  const over = since !== null && deadlines.passed(since + thresholds.unreachableAfter);
  const reason = channel.kind === 'down' ? channel.reason : '';
  return [
    {
      kind: 'host-unreachable',
      subject: `host ${name}`,
      host: name,
      severity: 'critical',
      message:
        since === null
          ? ''
          : `the agent of host ${name} has been out of reach since ${formatInstant(since)}: ${reason}`,
      action:
        'see that the host runs and is on the network, that its agent runs (systemctl status virt-trust-agent), and that its firewall lets the manager in; nothing needs to be done here when it is back',
      // What happened before the manager started, or just now, is no reason to raise one, nor to clear one.
      ...(over ? {} : { undecided: true }),
    },
  ];
}

function failed({ name, state, reason, revoked, failure, credentials }: HostFacts): Condition[] {
  const own = failure ?? credentials.find((credential) => credential.failure !== null)?.failure ?? null;
  if (state !== 'failed' && own === null) return [];
  const why =
    state === 'failed' ? (reason ?? 'for a reason that was not kept') : `${own?.message} (at ${own?.step})`;
  const common = { kind: 'host-failed', subject: `host ${name}`, host: name, severity: 'critical' } as const;
  if (revoked) {
    return [
      {
        ...common,
        message: `host ${name} gets no certificates: ${why}`,
        action: `find out what happened to it; once it is trustworthy: virt-trust host provision ${name}, and if it never is: virt-trust host remove ${name} --force`,
      },
    ];
  }
  return [
    {
      ...common,
      message: `host ${name} could not be brought to its desired state: ${why}`,
      action: `${own?.hint === undefined ? '' : `${own.hint}; then: `}virt-trust host provision ${name}`,
      ...(isChanging(state) ? { undecided: true } : {}),
    },
  ];
}

function expiring(facts: HostFacts, credential: CredentialFact, deadlines: Deadlines): Condition[] {
  const { service, notAfter, issuedAt, serialNumber, identity } = credential;
  if (notAfter === null) return [];
  const severity = expirySeverity({ begin: issuedAt, end: notAfter }, facts.thresholds.expiry, deadlines);
  if (severity === null) return [];
  const verb = deadlines.passed(notAfter) ? 'expired' : 'expires';
  const serial = serialNumber === null ? '' : ` (serial number ${serialNumber})`;
  return [
    {
      kind: 'certificate-expiry',
      subject: `${service} of host ${facts.name}`,
      host: facts.name,
      severity,
      message: `the ${service} certificate of host ${facts.name}${serial} ${verb} at ${formatInstant(notAfter)}`,
      action: expiryAction(facts, service, identity),
    },
  ];
}

function expiryAction(facts: HostFacts, service: Service, identity: CredentialFact['identity']): string {
  if (facts.channel.kind !== 'up')
    return `bring host ${facts.name} up: it is renewed over its channel even with everything expired; then see: virt-trust host show ${facts.name}`;
  if (identity === 'found')
    return `it was found on the host and is not renewed here; serve our own: virt-trust host gate ${facts.name} serve`;
  return `virt-trust certificate renew ${facts.name} ${service}`;
}

function rescued({ name, rescues }: HostFacts): Condition[] {
  return rescues.map(({ service, reason, at }) => ({
    kind: 'rescue',
    subject: `${service} of host ${name}`,
    host: name,
    severity: 'critical',
    message: `host ${name} serves a ${service} certificate that it made itself, since ${formatInstant(at as Instant)}: ${reason}`,
    action: `virt-trust host provision ${name}`,
  }));
}

/** GnuTLS looks at no CRL's age, so nobody else says that a host goes by an old one. */
function staleCrls({ name, crls, channel }: HostFacts, deadlines: Deadlines): Condition[] {
  return crls.flatMap(({ purpose, number, thisUpdate, nextUpdate }): Condition[] => {
    const validity = { begin: thisUpdate as Instant, end: nextUpdate as Instant };
    const severity = expirySeverity(validity, CRL_THRESHOLDS, deadlines);
    if (severity === null) return [];
    const verb = deadlines.passed(nextUpdate) ? 'has been stale since' : 'gets stale at';
    return [
      {
        kind: 'crl-stale',
        subject: `CRL for ${purpose} on host ${name}`,
        host: name,
        severity,
        message: `the ${purpose} CRL on host ${name} (number ${number}) ${verb} ${formatInstant(nextUpdate as Instant)}`,
        action:
          channel.kind === 'down'
            ? `bring host ${name} up: it gets the newest when its channel is there; then see: virt-trust crl list`
            : 'virt-trust crl refresh',
      },
    ];
  });
}

/** Another certificate, or none at all: as the agent saw it, and as the manager saw it from outside. */
function drifting(facts: HostFacts, service: Service, deadlines: Deadlines): Condition[] {
  const { name, channel, outside, thresholds } = facts;
  const wrong = facts.served.filter(
    (one) => one.service === service && (one.state === 'drifted' || one.state === 'unreachable'),
  );
  const seen = service === 'libvirt' && outside !== null && outside.state !== 'as-desired' ? outside : null;
  if (wrong.length === 0 && seen === null) return [];
  const since = Math.min(...wrong.map((one) => one.since), seen?.since ?? Number.POSITIVE_INFINITY);
  const settled = deadlines.passed(since + thresholds.driftAfter);
  // Of a host that is away, what was last seen may be over; that it is away is an alarm of its own.
  // So it is where nothing at all of it answered from outside: the channel may be taken for up a little longer.
  const reached = seen !== null && seen.state !== 'unreachable' && seen.agentAnswered;
  const known = reached || (channel.kind === 'up' && seen?.agentAnswered !== false);
  const words = [...named(wrong), ...(seen === null ? [] : [`seen by the manager: ${seen.detail}`])];
  const gone =
    wrong.every((one) => one.state === 'unreachable') && (seen?.state ?? 'unreachable') === 'unreachable';
  return [
    {
      kind: 'drift',
      subject: `${service} of host ${name}`,
      host: name,
      severity: 'critical',
      message: `host ${name} does not serve ${service} as it should: ${words.join('; ')}`,
      action:
        wrong.find((one) => one.action !== '')?.action ??
        (gone && service === 'libvirt'
          ? `on the host: systemctl status libvirtd (or virtproxyd) with its -tls.socket, and start it; then: virt-trust host provision ${name}`
          : `virt-trust host provision ${name}`),
      ...(settled && known && !isChanging(facts.state) ? {} : { undecided: true }),
    },
  ];
}

function contested(facts: HostFacts, service: Service): Condition[] {
  const { name, channel } = facts;
  const wrong = facts.served.filter((one) => one.service === service && one.state === 'contested');
  if (wrong.length === 0) return [];
  return [
    {
      kind: 'contested',
      subject: `${service} of host ${name}`,
      host: name,
      severity: 'critical',
      message: `something on host ${name} keeps changing ${service} back: ${named(wrong).join('; ')}`,
      action:
        wrong.find((one) => one.action !== '')?.action ??
        `find what else manages these files on the host (a configuration tool, VDSM, CloudStack) and stop it there; then: virt-trust host provision ${name}`,
      ...(channel.kind === 'up' ? {} : { undecided: true }),
    },
  ];
}

function awaitingRestart(facts: HostFacts, service: Service): Condition[] {
  const { name, channel } = facts;
  const old = facts.served.filter((one) => one.service === service && one.state === 'needs-restart');
  if (old.length === 0) return [];
  return [
    {
      kind: 'drift',
      subject: `VMs of host ${name} with a former ${service} certificate`,
      host: name,
      severity: 'warning',
      message: `VMs on host ${name} go on with the ${service} certificate that they loaded at their start: ${named(old).join('; ')}`,
      action:
        old.find((one) => one.action !== '')?.action ??
        'restart these VMs, or migrate them, at a time that suits them',
      ...(channel.kind === 'up' ? {} : { undecided: true }),
    },
  ];
}

function named(endpoints: readonly ServedEndpoint[]): string[] {
  const words = endpoints
    .slice(0, NAMED)
    .map(({ target, detail, state }) => `${target}: ${detail === '' ? state : detail}`);
  return endpoints.length > NAMED ? [...words, `and ${endpoints.length - NAMED} more`] : words;
}

/** While a job works on it, what is seen is on its way. */
function isChanging(state: HostFacts['state']): boolean {
  return state === 'provisioning' || state === 'enrolling';
}
