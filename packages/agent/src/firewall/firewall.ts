import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';
import { FirewalldFirewall } from './firewalld.ts';
import { NftablesFirewall } from './nftables.ts';
import { type FirewalldRule, FirewallRecord, type Opening } from './opening.ts';

export type FirewallKind = Inventory['firewall'];

/** The host's firewall, whichever it is: opens ports for virt-trust and takes back exactly what it opened. */
export class Firewall {
  readonly #document: Document<typeof FirewallRecord>;
  readonly #firewalld: FirewalldFirewall;
  readonly #nftables: NftablesFirewall;
  #last: Promise<unknown> = Promise.resolve();

  constructor(paths: AgentPaths, run: RunHostCommand) {
    this.#document = new Document(
      paths.firewall,
      FirewallRecord,
      `Remove ${paths.firewall}, which the agent writes again; rules that it had added to firewalld then stay.`,
    );
    this.#firewalld = new FirewalldFirewall(run);
    this.#nftables = new NftablesFirewall(run);
  }

  /** What filters this host's input now. */
  async detect(): Promise<FirewallKind> {
    if (await this.#firewalld.isRunning()) return 'firewalld';
    return (await this.#nftables.droppingChains()).length > 0 ? 'nftables-drop' : 'open';
  }

  /** Opens ports and keeps them open from now on; the same `what` again replaces it. True if rules were changed. */
  open(opening: Opening): Promise<boolean> {
    return this.#inTurn(async () => {
      const record = await this.#read();
      const openings = [...record.openings.filter(({ what }) => what !== opening.what), opening];
      // Recorded before it is done, so that it can be taken back after a crash.
      if (JSON.stringify(openings) !== JSON.stringify(record.openings))
        await this.#document.write({ ...record, openings });
      return await this.#apply(opening);
    });
  }

  /** Takes back what was opened as `what`; true if rules were changed. */
  close(what: string): Promise<boolean> {
    return this.#inTurn(async () => {
      const record = await this.#read();
      const added = record.firewalld.filter((rule) => rule.what === what);
      await this.#firewalld.remove(added);
      const changed = await this.#nftables.replace(what, undefined);
      if (added.length > 0 || record.openings.some((opening) => opening.what === what)) {
        await this.#document.write({
          openings: record.openings.filter((opening) => opening.what !== what),
          firewalld: record.firewalld.filter((rule) => rule.what !== what),
        });
      }
      return changed || added.length > 0;
    });
  }

  /** What is open now by virt-trust's doing. */
  async opened(): Promise<string[]> {
    const { openings, firewalld } = await this.#read();
    return [...new Set([...openings, ...firewalld].map(({ what }) => what))];
  }

  /** Opens again what somebody took away, a reload of the rules or a restart of the host; true if something was. */
  reapply(): Promise<boolean> {
    return this.#inTurn(async () => {
      let changed = false;
      for (const opening of (await this.#read()).openings) changed = (await this.#apply(opening)) || changed;
      return changed;
    });
  }

  async #apply(opening: Opening): Promise<boolean> {
    switch (await this.detect()) {
      case 'open':
        return false;
      case 'nftables-drop':
        return await this.#nftables.replace(opening.what, opening);
      case 'firewalld':
        return await this.#applyFirewalld(opening);
    }
  }

  async #applyFirewalld(opening: Opening): Promise<boolean> {
    const record = await this.#read();
    const planned = await this.#firewalld.plan(opening);
    const missing = await this.#firewalld.missing(planned);
    const mine = record.firewalld.filter((rule) => rule.what === opening.what);
    const stale = mine.filter((rule) => !planned.some((wanted) => sameRule(wanted, rule)));
    const others = record.firewalld.filter((rule) => rule.what !== opening.what);
    const kept = mine.filter((rule) => !stale.includes(rule));
    const added = missing.filter((rule) => !kept.some((known) => sameRule(known, rule)));
    if (added.length > 0)
      await this.#document.write({ ...record, firewalld: [...others, ...mine, ...added] });
    await this.#firewalld.add(missing);
    await this.#firewalld.remove(stale);
    if (stale.length > 0)
      await this.#document.write({ ...record, firewalld: [...others, ...kept, ...added] });
    return missing.length > 0 || stale.length > 0;
  }

  async #read(): Promise<FirewallRecord> {
    return (await this.#document.read()) ?? { openings: [], firewalld: [] };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function sameRule(a: FirewalldRule, b: FirewalldRule): boolean {
  return a.zone === b.zone && a.kind === b.kind && a.value === b.value && a.permanent === b.permanent;
}
