import { simulateAgent } from './simulated-agent.ts';

/** Its own process: agents of simulated hosts for the manager with these pins; prints their names, pins and ports. */
const [count = '0', ...managerPins] = process.argv.slice(2);
const agents: Awaited<ReturnType<typeof simulateAgent>>[] = [];
for (let index = 1; index <= Number(count); index++)
  agents.push(await simulateAgent(`sim${index}`, managerPins));
process.once('SIGTERM', () => process.exit(0));
console.log(JSON.stringify(agents));
