import { DAY } from '@virt-trust/base/instant.ts';

/** How often a path or an endpoint is repaired before it is left alone, with an alarm. */
export const REPAIR_LIMIT = 2;

/** After so long without another repair the counting begins anew. */
export const QUIET_MS = DAY;
