import { isIP } from 'node:net';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { isSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { VmFacts } from '../apply/host-effects.ts';
import { isOurVncDirectory } from '../apply/layout.ts';
import { seeTls } from '../apply/services/tls-sight.ts';
import { dialable } from '../apply/services/vnc.ts';
import type { Seen, Sighting, Where } from './sighting.ts';

/** Where to look, and how libvirt and the VMs are found. */
interface Places extends Where {
  readonly tlsPort: number;
  readonly vms: readonly VmFacts[];
  readonly clock: Clock;
}

interface Place extends Omit<Sighting, 'seen'> {
  readonly look: () => Promise<Seen>;
}

const AT_ONCE = 16;
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

function placesOf({ services, addresses, consoleBundle, tlsPort, vms, clock }: Places): Place[] {
  const has = (service: Service) => services.includes(service);
  return [
    ...(has('libvirt') ? addresses.map((address) => libvirtPlace(address, tlsPort)) : []),
    ...vms.flatMap((vm) => [
      ...(has('vnc') ? vm.vnc.map((display) => vncPlace(vm, display, consoleBundle, clock)) : []),
      ...(has('spice') ? vm.spice.map((display) => spicePlace(vm, display)) : []),
    ]),
  ];
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
  { listen, port, tlsDirectory }: VmFacts['vnc'][number],
  trust: string,
  clock: Clock,
): Place {
  return {
    service: 'vnc',
    target: vmTarget(vm, listen, port),
    vm,
    reloads: isOurVncDirectory(tlsDirectory),
    look: () =>
      tlsDirectory === null
        ? Promise.resolve({ kind: 'plain' })
        : attempt(async () => await seeVnc(dialable(listen), port, trust, clock)),
  };
}

function spicePlace(vm: VmFacts, { listen, port, tlsPort }: VmFacts['spice'][number]): Place {
  return {
    service: 'spice',
    target: vmTarget(vm, listen, tlsPort ?? port ?? 0),
    vm,
    reloads: false,
    look: () =>
      tlsPort === null
        ? Promise.resolve({ kind: 'plain' })
        : attempt(() => seeTls(dialable(listen), tlsPort, 'SPICE', LOOK_MS)),
  };
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

function vmTarget({ name }: VmFacts, listen: string, port: number): string {
  return `VM ${name} ${hostPort(listen === '' ? '0.0.0.0' : listen, port)}`.slice(0, 1024);
}

function hostPort(address: string, port: number): string {
  return `${isIP(address) === 6 ? `[${address}]` : address}:${port}`;
}
