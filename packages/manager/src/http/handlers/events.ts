import { TrustError } from '@virt-trust/base/error.ts';
import type { ManagerEvent } from '@virt-trust/contract/model/manager-event.ts';
import type { EventLog } from '../../events/event-log.ts';
import type { Handlers, ServerSentEvent } from '../handlers.ts';

/** What happens, as a stream that goes on where the client left. */
export function eventHandlers(events: EventLog): Pick<Handlers, 'watchEvents'> {
  return {
    watchEvents: async ({ query, lastEventId, signal }) => {
      const after = lastEventId === undefined ? query?.after : sequenceOf(lastEventId);
      return streamOf(events.follow(after, signal));
    },
  };
}

async function* streamOf(events: AsyncIterable<ManagerEvent>): AsyncGenerator<ServerSentEvent> {
  for await (const event of events) yield { id: String(event.sequence), event: event.kind, data: event };
}

function sequenceOf(lastEventId: string): number {
  if (/^\d{1,15}$/.test(lastEventId)) return Number(lastEventId);
  throw new TrustError(
    'request.last_event_id',
    'invalid',
    'cannot resume the stream: Last-Event-ID is no sequence',
  );
}
