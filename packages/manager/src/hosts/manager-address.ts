import { createSocket } from 'node:dgram';
import { isIP } from 'node:net';

/** The manager's own address on the way to a host, asked of the kernel's routing; null where there is no way. Sends nothing. */
export function sourceAddressTowards(address: string): Promise<string | null> {
  const family = isIP(address);
  if (family === 0) return Promise.resolve(null);
  return new Promise((resolve) => {
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4');
    const finish = (value: string | null) => {
      socket.close();
      resolve(value);
    };
    socket.once('error', () => finish(null));
    socket.connect(9, address, () => finish(socket.address().address));
  });
}
