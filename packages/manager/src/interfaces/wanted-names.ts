import type { HostId } from '@virt-trust/base/host-id.ts';

/** Which hosts were refused which names because another has them: asked by the name, however many hosts there are. */
export class WantedNames {
  readonly #hosts = new Map<string, Set<HostId>>();

  /** A host wants other names now than it did. */
  replace(id: HostId, before: Iterable<string>, after: Iterable<string>): void {
    for (const name of before) {
      const hosts = this.#hosts.get(name);
      hosts?.delete(id);
      if (hosts?.size === 0) this.#hosts.delete(name);
    }
    for (const name of after) {
      const hosts = this.#hosts.get(name) ?? new Set();
      this.#hosts.set(name, hosts.add(id));
    }
  }

  /** The hosts that want one of these names. */
  wantedBy(names: Iterable<string>): ReadonlySet<HostId> {
    return new Set([...names].flatMap((name) => [...(this.#hosts.get(name) ?? [])]));
  }
}
