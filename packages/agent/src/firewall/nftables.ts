import { isTrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import { type InputChain, type OwnRule, parseRuleset } from './nft-ruleset.ts';
import type { Opening, PortRange } from './opening.ts';

/** nftables (iptables-nft's tables too): accept rules with our comment at the head of each chain that drops input. */
export class NftablesFirewall {
  readonly #run: RunHostCommand;

  constructor(run: RunHostCommand) {
    this.#run = run;
  }

  /** The chains through which input must pass and that drop what no rule accepts. */
  async droppingChains(): Promise<InputChain[]> {
    return (await this.#ruleset()).dropping;
  }

  /** Makes the rules of `what` those of the opening, or none; one transaction. True if rules were changed. */
  async replace(what: string, opening: Opening | undefined): Promise<boolean> {
    const comment = `virt-trust:${what}`;
    const { dropping, own } = await this.#ruleset();
    const wanted = opening === undefined ? [] : dropping.flatMap((chain) => rulesOf(chain, opening, comment));
    const mine = own.filter((rule) => rule.comment === comment);
    const stale = mine.filter((rule) => !wanted.some((other) => sameRule(other, rule)));
    const missing = wanted.filter((rule) => !mine.some((other) => sameRule(other, rule)));
    if (stale.length === 0 && missing.length === 0) return false;
    const commands = [
      ...missing.map((rule) => ({ insert: { rule: encodeRule(rule) } })),
      ...stale.map(({ family, table, chain, handle }) => ({
        delete: { rule: { family, table, chain, handle } },
      })),
    ];
    // As an argument: nft -j opens /dev/stdin by its name, which fails where that is a socket.
    await this.#run('nft', ['-j', JSON.stringify({ nftables: commands })]);
    return true;
  }

  async #ruleset(): Promise<ReturnType<typeof parseRuleset>> {
    try {
      return parseRuleset(
        (await this.#run('nft', ['-j', 'list', 'ruleset'], { maxOutputBytes: 16 << 20 })).stdout,
      );
    } catch (error) {
      if (isTrustError(error, 'command.missing')) return { dropping: [], own: [] };
      throw error;
    }
  }
}

type WantedRule = Omit<OwnRule, 'handle'>;

function rulesOf(
  { family, table, name }: InputChain,
  { ports, from }: Opening,
  comment: string,
): WantedRule[] {
  const sources = from?.filter((address) => {
    if (family === 'inet') return true;
    return (family === 'ip6') === address.includes(':');
  }) ?? [null];
  return sources.flatMap((address) => {
    // As nft prints it, so that the rule is known again.
    const source = address === null ? null : canonicalIpAddress(address);
    return ports.map((range) => ({ family, table, chain: name, comment, source, ports: range }));
  });
}

function sameRule(a: WantedRule, b: WantedRule): boolean {
  return (
    a.family === b.family &&
    a.table === b.table &&
    a.chain === b.chain &&
    a.source === b.source &&
    a.ports?.from === b.ports?.from &&
    a.ports?.to === b.ports?.to
  );
}

function encodeRule({ family, table, chain, comment, source, ports }: WantedRule): object {
  const match = (protocol: string, field: string, right: unknown) => ({
    match: { op: '==', left: { payload: { protocol, field } }, right },
  });
  return {
    family,
    table,
    chain,
    comment,
    expr: [
      ...(source === null ? [] : [match(source.includes(':') ? 'ip6' : 'ip', 'saddr', source)]),
      ...(ports === null ? [] : [match('tcp', 'dport', encodePorts(ports))]),
      { accept: null },
    ],
  };
}

function encodePorts({ from, to }: PortRange): unknown {
  return from === to ? from : { range: [from, to] };
}
