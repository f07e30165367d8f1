import { isTrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { FirewalldRule, Opening } from './opening.ts';

/** Zones that are not the host's network: libvirt's own and containers' bridges, and the one that lets all in. */
const FOREIGN_ZONE = /^(?:libvirt|docker|trusted)/;
/** firewall-cmd's exit code for "no", and for a daemon that is not running. */
const NO = 1;
const NOT_RUNNING = 252;

/** firewalld: what is added goes to its runtime and its permanent configuration. */
export class FirewalldFirewall {
  readonly #run: RunHostCommand;

  constructor(run: RunHostCommand) {
    this.#run = run;
  }

  async isRunning(): Promise<boolean> {
    try {
      const { stdout } = await this.#run('firewall-cmd', ['--state'], { acceptedCodes: [NO, NOT_RUNNING] });
      return stdout.trim() === 'running';
    } catch (error) {
      if (isTrustError(error, 'command.missing')) return false;
      throw error;
    }
  }

  /** The rules that an opening needs in the zones of today. */
  async plan(opening: Opening): Promise<FirewalldRule[]> {
    return rulesOf(opening, await this.#zones());
  }

  /** Which of the rules are not there. */
  async missing(rules: readonly FirewalldRule[]): Promise<FirewalldRule[]> {
    const absent: FirewalldRule[] = [];
    for (const rule of rules) {
      const { code } = await this.#run('firewall-cmd', argumentsOf('query', rule), { acceptedCodes: [NO] });
      if (code === NO) absent.push(rule);
    }
    return absent;
  }

  async add(rules: readonly FirewalldRule[]): Promise<void> {
    for (const rule of rules) await this.#run('firewall-cmd', argumentsOf('add', rule));
  }

  /** Takes rules away; one that somebody else took away before is fine. */
  async remove(rules: readonly FirewalldRule[]): Promise<void> {
    if (rules.length === 0) return;
    const running = await this.isRunning();
    for (const rule of rules) {
      if (running) {
        await this.#run('firewall-cmd', argumentsOf('remove', rule));
      } else if (rule.permanent) {
        await this.#run('firewall-offline-cmd', argumentsOf('remove', { ...rule, permanent: false })).catch(
          (error: unknown) => {
            // firewalld was uninstalled, and its configuration is nobody's any more.
            if (!isTrustError(error, 'command.missing')) throw error;
          },
        );
      }
    }
  }

  async #zones(): Promise<string[]> {
    const active = parseActiveZones((await this.#run('firewall-cmd', ['--get-active-zones'])).stdout);
    const fallback = (await this.#run('firewall-cmd', ['--get-default-zone'])).stdout.trim();
    return [...new Set([...active, fallback])].filter((zone) => zone !== '' && !FOREIGN_ZONE.test(zone));
  }
}

/** The zone names in the output of `firewall-cmd --get-active-zones`. */
export function parseActiveZones(output: string): string[] {
  return output
    .split('\n')
    .slice(0, 1000)
    .map((line) => /^([A-Za-z0-9_/-]{1,64})(?:\s+\(default\))?\s*$/.exec(line)?.[1])
    .filter((name) => name !== undefined);
}

function rulesOf({ what, ports, from }: Opening, zones: readonly string[]): FirewalldRule[] {
  const values = ports.flatMap((range): Pick<FirewalldRule, 'kind' | 'value'>[] => {
    const port = range.from === range.to ? `${range.from}` : `${range.from}-${range.to}`;
    if (from === null) return [{ kind: 'port', value: `${port}/tcp` }];
    return from.map((address) => ({
      kind: 'rich-rule',
      value: `rule family="${address.includes(':') ? 'ipv6' : 'ipv4'}" source address="${address}" port port="${port}" protocol="tcp" accept`,
    }));
  });
  return zones.flatMap((zone) =>
    values.flatMap((value) => [
      { what, zone, ...value, permanent: true },
      { what, zone, ...value, permanent: false },
    ]),
  );
}

function argumentsOf(verb: 'add' | 'remove' | 'query', rule: FirewalldRule): string[] {
  return [
    ...(rule.permanent ? ['--permanent'] : []),
    `--zone=${rule.zone}`,
    `--${verb}-${rule.kind}=${rule.value}`,
  ];
}
