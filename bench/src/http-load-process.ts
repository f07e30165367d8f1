import { readFileSync } from 'node:fs';
import { generateLoad, type LoadOrder } from './http-load.ts';

/** Its own process: order and bodies come as one JSON document on standard input. */
const { order, bodies } = JSON.parse(readFileSync(0, 'utf8')) as { order: LoadOrder; bodies: string[] };
console.log(JSON.stringify(await generateLoad(order, bodies)));
