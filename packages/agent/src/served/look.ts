import { isIP } from 'node:net';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { isSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { VmFacts } from '../services/host-effects.ts';
import { hostPort, type IsOwn, inTurns, reachesOf } from '../services/reach.ts';
import type { Seen, Sighting, Where } from '../services/sighting.ts';
import { seeTls } from '../services/tls-sight.ts';
import { inTurnAtVnc } from '../services/vnc-turns.ts';
import { isOurVncDirectory } from '../sets/layout.ts';

/** Where to look, and how libvirt and the VMs are found. */
interface Places extends Where {
  readonly tlsPort: number;
  readonly vms: readonly VmFacts[];
  readonly isOwn: IsOwn;
  readonly clock: Clock;
}

interface Place extends Omit<Sighting, 'seen'> {
  readonly look: () => Promise<Seen>;
}

const AT_ONCE = 16;
/** Of what is observed of a host, 4096 rows at most are told; some are for files. */
const MAX_PLACES = 4000;
const LOOK_MS = 10_000;
/** A VM that starts has its command line before it listens. */
const AGAIN_MS = 1500;

/** Makes a handshake at every place, a bounded number at once; a place where nothing answers is looked at again. */
export async function lookAtEndpoints(places: Places): Promise<Sighting[]> {
  const list = placesOf(places);
  const sightings: Sighting[] = [];
  let next = 0;
  await Promise.all(
    Array.from({ length: Math.min(AT_ONCE, list.length) }, async () => {
      for (let at = next++; at < list.length; at = next++) {
        const { look, ...what } = list[at] as Place;
        let seen = await look();
        if (seen.kind === 'nothing') {
          await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
          seen = await look();
        }
        sightings[at] = { ...what, seen };
      }
    }),
  );
  return sightings;
}

function placesOf(places: Places): Place[] {
  const { services, addresses, isOwn, consoleBundle, tlsPort, vms, clock } = places;
  const has = (service: Service) => services.includes(service);
  const ownOf = (service: Service) => (addresses[service] ?? []).filter(isOwn);
  const libvirt = ownOf('libvirt');
  const [vnc, spice] = [ownOf('vnc'), ownOf('spice')];
  const displays = vms.flatMap((vm) => [
    ...(has('vnc')
      ? vm.vnc.map((display) =>
          reachesOf('vnc', display.listen, display.tlsDirectory === null ? [] : vnc).map(({ address }) =>
            vncPlace(vm, address, display, { consoleBundle, isOwn, clock }),
          ),
        )
      : []),
    ...(has('spice')
      ? vm.spice.map((display) =>
          reachesOf('spice', display.listen, display.tlsPort === null ? [] : spice).map(({ address }) =>
            spicePlace(vm, address, display, isOwn),
          ),
        )
      : []),
  ]);
  return [
    ...(has('libvirt')
      ? (libvirt.length > 0 ? libvirt : ['127.0.0.1']).map((address) => libvirtPlace(address, tlsPort))
      : []),
    ...inTurns(displays),
  ].slice(0, MAX_PLACES);
}

function libvirtPlace(address: string, port: number): Place {
  return {
    service: 'libvirt',
    target: hostPort(address, port),
    vm: null,
    reloads: true,
    look: () => attempt(() => seeTls(address, port, 'libvirt', LOOK_MS)),
  };
}

function vncPlace(
  vm: VmFacts,
  address: string,
  { port, tlsDirectory }: VmFacts['vnc'][number],
  { consoleBundle, isOwn, clock }: Pick<Places, 'consoleBundle' | 'isOwn' | 'clock'>,
): Place {
  return {
    service: 'vnc',
    target: vmTarget(vm, address, port),
    vm,
    reloads: isOurVncDirectory(tlsDirectory),
    look: () =>
      tlsDirectory === null
        ? Promise.resolve({ kind: 'plain' })
        : lookThere(address, isOwn, () =>
            inTurnAtVnc(port, () => seeVnc(address, port, consoleBundle, clock)),
          ),
  };
}

function spicePlace(
  vm: VmFacts,
  address: string,
  { port, tlsPort }: VmFacts['spice'][number],
  isOwn: IsOwn,
): Place {
  return {
    service: 'spice',
    target: vmTarget(vm, address, tlsPort ?? port ?? 0),
    vm,
    reloads: false,
    look: () =>
      tlsPort === null
        ? Promise.resolve({ kind: 'plain' })
        : lookThere(address, isOwn, () => seeTls(address, tlsPort, 'SPICE', LOOK_MS)),
  };
}

/** At an address that is another host's by now, another host would be seen. */
async function lookThere(
  address: string,
  isOwn: IsOwn,
  see: () => Promise<{ pin: SpkiPin; protocol: string }>,
): Promise<Seen> {
  if (isIP(address) !== 0 && !isOwn(address))
    return { kind: 'nothing', reason: `it listens on ${address}, which is not the host's any more` };
  return await attempt(see);
}

/** Whose key a VNC server holds; whether its chain and times are good is not asked here. */
async function seeVnc(
  host: string,
  port: number,
  trust: string,
  clock: Clock,
): Promise<{ pin: SpkiPin; protocol: string }> {
  try {
    const evidence = await probeVnc({ host, port, timeoutMs: LOOK_MS, serverName: null, trust, clock });
    return { pin: evidence.servedCertificate.pin, protocol: evidence.protocol };
  } catch (error) {
    const pin = isTrustError(error) ? error.context?.['servedPin'] : undefined;
    if (isSpkiPin(pin)) return { pin, protocol: 'VeNCrypt' };
    throw error;
  }
}

async function attempt(see: () => Promise<{ pin: SpkiPin; protocol: string }>): Promise<Seen> {
  try {
    const { pin, protocol } = await see();
    return { kind: 'key', pin, detail: protocol };
  } catch (error) {
    return { kind: 'nothing', reason: describeError(error) };
  }
}

function vmTarget({ name }: VmFacts, address: string, port: number): string {
  return `VM ${name} ${hostPort(address, port)}`.slice(0, 1024);
}
