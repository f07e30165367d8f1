import type { OutsideLooks } from '../hosts/outside-looks.ts';
import type { Metrics, Sample } from '../metrics/metrics.ts';
import type { Alarms } from './alarms.ts';
import type { FleetConditions } from './fleet-conditions.ts';
import type { WebhookStore } from './webhook-store.ts';

/** So many series of one family at most: they are two or three for each host. */
const MOST_SERIES = 50_000;

/** What is wrong, and what will be, as figures. */
export function registerAlarmMetrics(
  metrics: Metrics,
  parts: {
    readonly alarms: Alarms;
    readonly fleet: FleetConditions;
    readonly outside: OutsideLooks;
    readonly webhook: WebhookStore;
  },
): void {
  const { alarms, fleet, outside, webhook } = parts;
  metrics.gauge('virt_trust_alarms', 'Open alarms by kind, severity and state.', async () =>
    alarms.open.counts().map(({ count, ...labels }) => ({ labels, value: count })),
  );
  metrics.gauge(
    'virt_trust_certificate_not_after_seconds',
    'End of the certificate that each service of a host serves, in seconds since 1970, as last seen; hosts that are down included.',
    async () =>
      perHost(fleet, ({ stored }) =>
        stored.credentials.flatMap(({ service, notAfter }) =>
          notAfter === null
            ? []
            : [{ labels: { host: stored.name, service }, value: Math.floor(notAfter / 1000) }],
        ),
      ),
  );
  metrics.gauge(
    'virt_trust_crl_next_update_seconds',
    'nextUpdate of the CRL that a host holds for a purpose, in seconds since 1970, as last seen.',
    async () =>
      perHost(fleet, ({ stored }) =>
        stored.crls.map(({ purpose, nextUpdate }) => ({
          labels: { host: stored.name, purpose },
          value: Math.floor(nextUpdate / 1000),
        })),
      ),
  );
  metrics.gauge('virt_trust_host_up', 'Whether the channel to a host is up.', async () =>
    perHost(fleet, ({ stored, channel }) => [
      { labels: { host: stored.name }, value: channel.kind === 'up' ? 1 : 0 },
    ]),
  );
  metrics.gauge(
    'virt_trust_served_drift',
    'Endpoints that were last seen by agents to serve something else than desired, by service and state.',
    async () => {
      const counts = new Map<string, Sample & { value: number }>();
      for (const { stored } of fleet.stored())
        for (const { service, state } of stored.served) {
          const key = `${service} ${state}`;
          const sample = counts.get(key) ?? { labels: { service, state }, value: 0 };
          counts.set(key, { ...sample, value: sample.value + 1 });
        }
      return [...counts.values()];
    },
  );
  metrics.gauge(
    'virt_trust_outside_looks',
    "Hosts by what the manager saw last on libvirt's port from outside.",
    async () => [...outside.counts()].map(([state, value]) => ({ labels: { state }, value })),
  );
  metrics.gauge('virt_trust_webhook_waiting', 'Deliveries that wait for the webhook.', async () => [
    { value: (await webhook.get())?.waiting ?? 0 },
  ]);
}

type Stored = FleetConditions extends { stored(): Iterable<infer One> } ? One : never;

function perHost(fleet: FleetConditions, samples: (one: Stored) => readonly Sample[]): Sample[] {
  const all: Sample[] = [];
  for (const one of fleet.stored()) {
    if (all.length >= MOST_SERIES) break;
    all.push(...samples(one));
  }
  return all;
}
