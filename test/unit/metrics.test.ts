import { expect, it } from '@jest/globals';
import { Role } from '../../src/config/env.js';
import { productMetrics } from '../support/product-metrics.js';

/** Every metric of ours, which dashboards and alerts, also those of operators, are written against. */
const METRICS = [
  'counter assistly_http_requests_total {method,route,status}',
  'counter assistly_prompts_total {characteristics}',
  'counter assistly_provider_calls_total {model,outcome}',
  'counter assistly_provider_unknown_finish_reasons_total {model}',
  'counter assistly_replies_finished_total {status,error_code}',
  'counter assistly_reply_attempts_total {outcome}',
  'counter assistly_tokens_total {model,direction}',
  'gauge assistly_build_info {role,version,commit}',
  'gauge assistly_database_pool_connections {state}',
  'gauge assistly_database_pool_max_connections {}',
  'gauge assistly_database_pool_waiting {}',
  'gauge assistly_event_streams_open {}',
  'gauge assistly_queue_jobs {state}',
  'gauge assistly_replies_unfinished {state}',
  'gauge assistly_reply_oldest_due_age_seconds {}',
  'gauge assistly_source_up {source}',
  'gauge assistly_workers {}',
  'histogram assistly_event_lag_seconds {}',
  'histogram assistly_http_request_duration_seconds {method,route}',
  'histogram assistly_provider_first_token_seconds {model}',
  'histogram assistly_reply_duration_seconds {status}',
  'histogram assistly_reply_first_token_seconds {}',
];
/** Those of what only an api does. */
const OF_APIS = ['assistly_event_streams_open', 'assistly_event_lag_seconds'];

it.each([
  [Role.All, METRICS],
  [Role.Api, METRICS],
  [Role.Worker, METRICS.filter((metric) => !OF_APIS.some((name) => metric.includes(name)))],
])(
  'a process of the role %s measures these, by type, name and labels, and no others',
  async (role, expected) => {
    const ours = (await productMetrics(role)).filter(({ name }) => name.startsWith('assistly_'));

    expect(ours.map(({ type, name, labels }) => `${type} ${name} {${labels.join()}}`).sort()).toEqual(
      expected,
    );
  },
);
