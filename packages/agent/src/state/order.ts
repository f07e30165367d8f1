import { InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import Type, { type Static } from 'typebox';
import { Document } from './document.ts';
import type { AgentPaths } from './paths.ts';

const { managerAddresses, channelPort, mode } = InstallOrder.properties;

/** The install order as the agent keeps it; the managers have a file of their own. */
export const AgentOrder = Type.Object(
  { managerAddresses, channelPort, mode },
  { additionalProperties: false },
);
export type AgentOrder = Static<typeof AgentOrder>;

/** The file that holds the order. */
export function orderDocument(paths: AgentPaths): Document<typeof AgentOrder> {
  return new Document(paths.order, AgentOrder, 'Enrol the host again: virt-trust host add.');
}
