import type { ComposeDomain } from './core.ts';

/** The parts of the manager besides its core, in the order in which they start. */
export const DOMAINS: readonly ComposeDomain[] = [];
