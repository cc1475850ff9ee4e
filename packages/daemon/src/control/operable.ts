import type { LogRegistry } from '@dmlog/log';
import type { DispatchCounters } from '../dispatcher.js';
import type { Logger } from '../logging.js';
import type { Served } from '../served.js';
import type { LiveSettings } from './live-settings.js';
import type { RequestObserver } from './request-observer.js';

/** What a running daemon lends to those who operate it. */
export interface Operable {
  readonly logs: LogRegistry<Served>;
  readonly counters: DispatchCounters;
  readonly observer: RequestObserver;
  readonly settings: LiveSettings;
  readonly logger: Logger;
}
