import { Lab } from '../src/lab.ts';

// A process that brings a lab up, says what it does, and stays: the tests kill it.
const name = process.argv[2] ?? '';
const lab = await Lab.up({
  name,
  hosts: ['host-a', 'host-b'],
  keepState: true,
  progress: ({ text }) => console.log(text),
});
console.log(`lab ${lab.name} is up`);
setInterval(() => {}, 1_000_000);
