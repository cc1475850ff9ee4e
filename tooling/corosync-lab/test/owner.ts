/** Owns a cluster of one node, and waits to be ended. */
import { serveLines, startCluster } from '../src/index.js';

const tell = serveLines({ exit: () => process.exit(0) });
const cluster = await startCluster({ nodes: 1 });
const { namespace, pid } = cluster.node(1);
tell({ namespace, directory: cluster.directory, pid });
