import type { Instant } from '@virt-trust/base/instant.ts';
import type { Finding, PreflightReport } from '@virt-trust/contract/model/preflight.ts';
import type { HostRevocations } from '../hosts/ports.ts';
import type { PreflightQuestion } from './preflight.ts';

export interface PairFacts {
  readonly question: PreflightQuestion;
  readonly source: PreflightReport | null;
  readonly destination: PreflightReport | null;
  readonly revocations: Pick<HostRevocations, 'revocationOf'>;
  readonly at: Instant;
}

/** What follows from what both hosts said, held against each other. */
export function pairFindings(_facts: PairFacts): Finding[] {
  return [];
}
