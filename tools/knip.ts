import type { KnipConfig } from 'knip';

/** With --production, what tests alone use is dead too, unless its own module uses it or it is marked @public. */
const production = process.argv.includes('--production');
const tests = ['src/**/*.test.ts', 'src/**/{crash,http-load}-*.ts'];

const configuration: KnipConfig = {
  // Every module can be imported from other packages, so every module is an entry; its exports must be used all the same.
  includeEntryExports: true,
  ignoreExportsUsedInFile: production,
  ignoreIssues: production ? { '**/{fixtures,fixture-*,test-*}.ts': ['exports', 'types'] } : {},
  // Programs of the machine, not of node_modules.
  ignoreBinaries: ['apt-get', 'mkfifo', 'mount', 'openssl', 'perl', 'strip', 'tcpdump', 'umount', 'unshare'],
  workspaces: {
    '.': { entry: ['tools/*.ts!', '!tools/knip.ts'], project: ['tools/**/*.ts!'] },
    'packages/*': { entry: tests, project: ['src/**/*.ts!'] },
    'packages/cli': { entry: ['src/main.ts!', ...tests], project: ['src/**/*.ts!'] },
    lab: {
      entry: ['src/main.ts!', 'src/start.ts!', 'src/soak-main.ts!', 'e2e/*.e2e.ts!', ...tests],
      project: ['{src,e2e}/**/*.ts!'],
    },
    bench: {
      entry: [
        'src/main.ts!',
        'src/{http-load-process,issuance-manager,ocsp-server,ocsp-bare-server,simulated-agents}.ts!',
      ],
      project: ['src/**/*.ts!'],
    },
  },
};

export default configuration;
