import type { Instant } from '@virt-trust/base/instant.ts';
import { pinMatches, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Sighting } from '../services/sighting.ts';
import { REPAIR_LIMIT } from '../sets/repair-count.ts';

/** What a service shall serve. */
export interface Expected {
  readonly pin: SpkiPin;
  /** Why the host serves a set of its own instead; null where it does not. */
  readonly rescue: string | null;
}

export interface JudgeInput {
  readonly sighting: Sighting;
  readonly expected: Expected;
  readonly settings: Pick<DesiredState['settings'], 'vncTls' | 'spiceTls'>;
  /** How often this place was repaired. */
  readonly repairs: number;
}

type Judgement = Pick<ServedEndpoint, 'state' | 'servedPin' | 'detail' | 'action'>;

const CONTESTED =
  'find out what changes it back (VDSM, CloudStack, a configuration tool), then provision the host again';
const RESTART = 'restart or migrate the VM';

/** What a sighting means beside what should be served; undefined where nobody wants TLS there. Pure. */
export function judge({ sighting, expected, settings, repairs }: JudgeInput): Judgement | undefined {
  const { service, seen, reloads } = sighting;
  switch (seen.kind) {
    case 'plain': {
      if ((service === 'vnc' ? settings.vncTls : settings.spiceTls) !== 'on') return undefined;
      const detail = 'it was started without TLS';
      return { state: 'needs-restart', servedPin: null, detail, action: RESTART };
    }
    case 'nothing':
      return {
        state: 'unreachable',
        servedPin: null,
        detail: line(seen.reason),
        action:
          service === 'libvirt'
            ? 'see whether the daemon runs and listens there: systemctl status, ss -ltn'
            : 'see whether the VM is well: virsh domstate, and its log below /var/log/libvirt/qemu',
      };
    case 'key': {
      const servedPin = seen.pin;
      if (pinMatches(servedPin, [expected.pin]))
        return { state: 'as-desired', servedPin, detail: line(seen.detail), action: '' };
      if (!reloads)
        return {
          state: 'needs-restart',
          servedPin,
          detail: 'it serves the certificate that it loaded when it was started',
          action: RESTART,
        };
      if (expected.rescue !== null)
        return {
          state: 'drifted',
          servedPin,
          detail: line(`a set of the host's own is served: ${expected.rescue}`),
          action: 'let the manager reach the host: it renews the certificate by itself',
        };
      if (repairs >= REPAIR_LIMIT)
        return {
          state: 'contested',
          servedPin,
          detail: `another certificate was served again after ${repairs} reloads; it is left alone now`,
          action: CONTESTED,
        };
      return {
        state: 'drifted',
        servedPin,
        detail: 'another certificate is served than the one on disk',
        action: '',
      };
    }
  }
}

/** A file or link that something keeps changing back. */
export function contestedPath(
  service: Service,
  path: string,
  expectedPin: SpkiPin,
  at: Instant,
): Omit<ServedEndpoint, 'since'> {
  return {
    service,
    target: path.slice(0, 1024),
    vm: null,
    expectedPin,
    servedPin: null,
    state: 'contested',
    detail: `changed again after ${REPAIR_LIMIT} repairs; it is left alone now`,
    action: CONTESTED,
    at,
  };
}

/** Text that fits the contract's lines. */
export function line(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u001f\u007f]/g, ' ').slice(0, 1024);
}
