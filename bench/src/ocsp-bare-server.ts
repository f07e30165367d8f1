import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Its own process: Node's HTTP server alone, which reads each request and answers with the same octets; prints its port. */
const body = Buffer.from(process.argv[2] ?? '', 'base64');
const headers = { 'content-type': 'application/ocsp-response', 'content-length': body.length };
const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    response.writeHead(200, headers);
    response.end(body);
  });
});
process.once('SIGTERM', () => process.exit(0));
server.listen(0, '127.0.0.1', () => console.log(String((server.address() as AddressInfo).port)));
