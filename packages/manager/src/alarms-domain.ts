import type { HostId } from '@virt-trust/base/host-id.ts';
import type { ConnectionState } from '@virt-trust/channel/connection.ts';
import { isSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { Alarms } from './alarms/alarms.ts';
import { authoritySource } from './alarms/authority-source.ts';
import { FleetConditions } from './alarms/fleet-conditions.ts';
import { registerAlarmMetrics } from './alarms/metrics.ts';
import { WebhookSender } from './alarms/webhook-sender.ts';
import type { Authorities } from './authorities/authorities.ts';
import type { Core, Domain } from './core.ts';
import { whyAway } from './hosts/away.ts';
import type { HostRepository } from './hosts/host.ts';
import type { OutsideLooks } from './hosts/outside-looks.ts';
import { alarmHandlers } from './http/handlers/alarms.ts';
import type { CertificateRepository } from './issuance/certificate-record.ts';
import { SqliteAlarmStore } from './store/alarm-store.ts';
import { SqliteWebhookStore } from './store/webhook-store.ts';

/** What alarms need of the rest of the manager. */
export interface AlarmsDomainParts {
  readonly repository: HostRepository;
  readonly authorities: Authorities;
  readonly certificates: CertificateRepository;
  readonly outside: OutsideLooks;
}

/** Alarms with their webhook, and what tells them of hosts. */
export interface AlarmsDomain extends Required<Pick<Domain, 'handlers' | 'start' | 'close'>> {
  /** The open alarms of a host, counted. */
  ofHost(name: string): { warning: number; critical: number; first: string | null };
  /** The state of a host's channel changed. */
  channel(id: HostId, state: ConnectionState): void;
  /** The manager saw something else from outside. */
  looked(id: HostId): void;
  /** Runs what gives a host another name, and with it its alarms in the store. */
  whileRenaming<T>(rename: () => Promise<T>): Promise<T>;
}

/** Puts the alarms on the store, the fleet and what other domains make known. */
export function composeAlarms(core: Core, parts: AlarmsDomainParts): AlarmsDomain {
  const { clock, randomness, settings, log, database, seal, signal } = core;
  const store = new SqliteAlarmStore(database, clock);
  const webhook = new SqliteWebhookStore(database, clock, seal);
  const deliveries = core.metrics.counter(
    'virt_trust_webhook_deliveries_total',
    'Requests to the webhook by outcome.',
  );
  const sender = new WebhookSender({
    store: webhook,
    clock,
    randomness,
    log,
    signal,
    onAttempt: (taken) => deliveries.add({ outcome: taken ? 'taken' : 'failed' }),
  });
  const fleet = new FleetConditions({
    clock,
    repository: parts.repository,
    settings,
    issuedAt: async (serial) =>
      isSerialNumber(serial) ? ((await parts.certificates.find(serial))?.issuedAt ?? null) : null,
    outsideOf: (id) => parts.outside.of(id),
  });
  const alarms = new Alarms({
    store,
    sources: core.alarms,
    fleet,
    settings,
    clock,
    log,
    onChange: () => {
      core.events.wake();
      sender.wake();
    },
  });
  core.alarms.register(authoritySource({ authorities: () => parts.authorities.list(), settings, clock }));
  parts.repository.onChange((id) => {
    fleet.written(id);
    alarms.changed();
  });
  registerAlarmMetrics(core.metrics, { alarms, fleet, outside: parts.outside, webhook });
  return {
    handlers: alarmHandlers({ alarms, store, webhook, sender, randomness, audit: core.audit }),
    ofHost: (name) => alarms.open.ofHost(name),
    channel(id, state) {
      if (state.kind === 'up') fleet.channel(id, 'up', '');
      else if (state.kind === 'down') fleet.channel(id, 'down', whyAway(state));
      else return;
      alarms.changed();
    },
    looked(id) {
      fleet.looked(id);
      alarms.changed();
    },
    whileRenaming: (rename) => alarms.rereadAfter(rename),
    async start() {
      await alarms.start();
      sender.start();
    },
    async close() {
      await alarms.stop();
      await sender.stop();
    },
  };
}
