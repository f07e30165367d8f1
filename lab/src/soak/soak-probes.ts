import type { Clock } from '@virt-trust/base/clock.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import { getAuthority } from '@virt-trust/contract/manager/certificate-operations.ts';
import { encodePrivateKeyPem } from '@virt-trust/pki/key.ts';
import type { Host } from '../host.ts';
import type { SoakFleet } from './soak-fleet.ts';

/** A machine that is busy takes seconds. */
const TIMEOUT = 60_000;

/** Real handshakes with the hosts: chain, name and, by the manager's clock, dates are verified. */
export class SoakProbes {
  readonly #fleet: SoakFleet;
  readonly #clock: Clock;
  /** The visit that comes last at each VNC server. */
  readonly #atVnc = new Map<string, Promise<void>>();
  readonly #trust: { readonly control: string; readonly console: string };
  /** What was seen served, by target. */
  readonly seen = new Map<string, Set<string>>();

  private constructor(fleet: SoakFleet, clock: Clock, trust: { control: string; console: string }) {
    this.#fleet = fleet;
    this.#clock = clock;
    this.#trust = trust;
  }

  static async open(fleet: SoakFleet, clock: Clock): Promise<SoakProbes> {
    const bundle = async (name: string) =>
      (await fleet.client.call(getAuthority, { params: { name } })).bundle;
    return new SoakProbes(fleet, clock, {
      control: await bundle('control'),
      console: await bundle('console'),
    });
  }

  async libvirt(host: Host): Promise<void> {
    const { key, certificate } = await this.#fleet.ownClients.get();
    const { servedCertificate } = await probeLibvirt({
      host: host.address,
      port: 16514,
      serverName: host.address,
      trust: this.#trust.control,
      client: { certificatePem: certificate.pem, privateKeyPem: encodePrivateKeyPem(key) },
      clock: this.#clock,
      timeoutMs: TIMEOUT,
    });
    this.#note(`libvirt of ${host.name}`, servedCertificate.pin);
  }

  /** QEMU's VNC server listens with a backlog of one: of clients that come together some are never greeted. */
  async vnc(host: Host, port: number): Promise<void> {
    const place = `${host.name} ${port}`;
    const before = this.#atVnc.get(place) ?? Promise.resolve();
    const visit = before.then(() => this.#visitVnc(host, port));
    this.#atVnc.set(
      place,
      visit.catch(() => {}),
    );
    await visit;
  }

  async #visitVnc(host: Host, port: number): Promise<void> {
    const { servedCertificate } = await probeVnc({
      host: host.address,
      port,
      serverName: host.address,
      trust: this.#trust.console,
      clock: this.#clock,
      timeoutMs: TIMEOUT,
    });
    this.#note(`VNC on ${host.name}`, servedCertificate.pin);
  }

  #note(target: string, pin: string): void {
    this.seen.set(target, (this.seen.get(target) ?? new Set()).add(pin));
  }
}

/** The port of a VM's VNC server. */
export async function vncPortOf(host: Host, vm: string): Promise<number> {
  const display = await host.run(['virsh', '--connect', 'qemu:///system', 'vncdisplay', vm]);
  const number = /:(\d+)\s*$/.exec(display.trim())?.[1];
  if (number === undefined) throw new Error(`VM ${vm} on ${host.name} has no VNC display: ${display}`);
  return 5900 + Number(number);
}
