import type {
  DesiredCredential,
  DesiredState,
  Endpoint,
  SubjectAltNames,
} from '@virt-trust/contract/model/desired-state.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import {
  type KeyAlgorithm,
  PURPOSE_OF_SERVICE,
  type Purpose,
  SERVICES,
  type Service,
} from '@virt-trust/contract/model/service.ts';
import { isPassed } from './gates.ts';
import type { Host } from './host.ts';

export interface DesiredStateInput {
  readonly host: Host;
  readonly epoch: number;
  readonly organization: string;
  readonly keyAlgorithm: KeyAlgorithm;
  readonly migrationModes: readonly string[];
  readonly probeSeconds: number;
  /** The certificates of each purpose's authority, issuing CA first, in PEM. */
  readonly bundles: Readonly<Record<Purpose, string>>;
  /** Globs of the DNs under which virt-trust's own short-lived clients come. */
  readonly clientDns: readonly string[];
}

/** Where clients reach the services of a host: every service on the management interface. */
export function endpointsOf(host: Host): Endpoint[] {
  const { declared } = host;
  if (declared.interface === null) return [];
  const on = declared.interface;
  return SERVICES.map((service) => ({ service, interface: on, names: declared.names }));
}

/** What the manager wants of a host, from what was declared and which gates were passed; pure. */
export function desiredStateOf(input: DesiredStateInput): DesiredState {
  const { host } = input;
  const passed = (gate: Gate) => isPassed(host, gate);
  return {
    epoch: input.epoch,
    number: host.desiredNumber,
    credentials: SERVICES.map((service) => credentialOf(input, service, passed)),
    settings: {
      plainTcp: host.found?.tcpListening === true && passed('plain-tcp-off') ? 'off' : 'keep',
      vncTls: passed('vnc-tls') ? 'on' : 'keep',
      spiceTls: passed('vnc-tls') ? 'on' : 'keep',
      probeSeconds: input.probeSeconds,
      migrateTls: forcesTls(input, passed) ? 'force' : 'allow',
      clientDns: host.found?.allowedDns === true ? [...input.clientDns] : [],
    },
  };
}

/** Plain migrations of others go on until plain TCP and the found CA were let go (promise 6). */
function forcesTls(input: DesiredStateInput, passed: (gate: Gate) => boolean): boolean {
  const alone = input.migrationModes.length === 1 && input.migrationModes[0] === 'tls';
  return alone && passed('plain-tcp-off') && passed('retire-found-ca') && passed('serve');
}

function credentialOf(
  input: DesiredStateInput,
  service: Service,
  passed: (gate: Gate) => boolean,
): DesiredCredential {
  const { host } = input;
  const endpoints = endpointsOf(host).filter((endpoint) => endpoint.service === service);
  const { commonName, names } = credentialNames(host, service);
  const servesFound = host.found?.identities.includes(service) === true && !passed('serve');
  return {
    service,
    endpoints,
    identity: servesFound ? 'found' : 'ours',
    subject: { commonName, organization: input.organization },
    names,
    keyAlgorithm: input.keyAlgorithm,
    revision: host.revisions[service] ?? 0,
    bundle: input.bundles[PURPOSE_OF_SERVICE[service]],
    keepFoundTrust: host.found?.authorities.includes(service) === true && !passed('retire-found-ca'),
  };
}

/** What one service of a host is to be known by: its subject's common name and the names of all its endpoints. */
export function credentialNames(
  host: Host,
  service: Service,
): { commonName: string; names: SubjectAltNames } {
  const endpoints = endpointsOf(host).filter((endpoint) => endpoint.service === service);
  return { commonName: commonNameOf(host), names: unionOf(endpoints.map((endpoint) => endpoint.names)) };
}

/** X.520 bounds a common name at 64 characters; the SANs carry the names anyway. */
function commonNameOf(host: Pick<Host, 'name'>): string {
  return host.name.slice(0, 64);
}

function unionOf(all: readonly SubjectAltNames[]): SubjectAltNames {
  return {
    dns: [...new Set(all.flatMap((names) => names.dns))],
    addresses: [...new Set(all.flatMap((names) => names.addresses))],
  };
}
