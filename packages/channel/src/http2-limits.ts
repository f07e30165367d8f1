import type { ClientSessionOptions, ServerOptions } from 'node:http2';

const MAX_HEADER_LIST_SIZE = 16_384;

const SESSION_LIMITS = {
  maxHeaderListPairs: 100,
  /** Megabytes that one session may hold before streams are refused. */
  maxSessionMemory: 16,
  maxOutstandingPings: 4,
  maxSettings: 16,
} as const;

/** What an HTTP/2 server behind a channel must be made with (RFC 9113 §6.5.2, §10.5). */
export function channelServerOptions(): ServerOptions {
  return {
    ...SESSION_LIMITS,
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    settings: { maxConcurrentStreams: 100, maxHeaderListSize: MAX_HEADER_LIST_SIZE },
  };
}

/** The bounds that a manager sets an agent: nothing pushed (RFC 9113 §8.4), headers and memory limited. */
export function channelClientOptions(): ClientSessionOptions {
  return { ...SESSION_LIMITS, settings: { enablePush: false, maxHeaderListSize: MAX_HEADER_LIST_SIZE } };
}
