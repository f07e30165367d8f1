/**
 * @peculiar/x509 wants a `reflect-metadata` that it does not bring along; these three functions are what it calls.
 * Only tests load it.
 */
const store = new WeakMap<object, Map<unknown, unknown>>();

function own(key: unknown, target: object): unknown {
  return store.get(target)?.get(key);
}

function inherited(key: unknown, target: object): unknown {
  for (let current: object | null = target; current !== null; current = Object.getPrototypeOf(current)) {
    const value = own(key, current);
    if (value !== undefined) return value;
  }
  return undefined;
}

function define(key: unknown, value: unknown, target: object): void {
  const entries = store.get(target) ?? new Map<unknown, unknown>();
  store.set(target, entries.set(key, value));
}

Object.assign(Reflect, { getOwnMetadata: own, getMetadata: inherited, defineMetadata: define });

/** The library, loaded after what it needs. */
export const peculiar = await import('@peculiar/x509');
