import { Migration20261122145257_init } from './Migration20261122145257_init.js';
import { Migration20261122150000_event_stream } from './Migration20261122150000_event_stream.js';
import { Migration20261122154105_cancel_retry_idempotency } from './Migration20261122154105_cancel_retry_idempotency.js';
import { Migration20261126185644_paused_replies } from './Migration20261126185644_paused_replies.js';
import { Migration20261126185645_instructions } from './Migration20261126185645_instructions.js';
import { Migration20261126185646_characteristic_tokens } from './Migration20261126185646_characteristic_tokens.js';
import { Migration20261126185647_reply_attempts } from './Migration20261126185647_reply_attempts.js';
import { Migration20261126234639_counted_tokens } from './Migration20261126234639_counted_tokens.js';
import { Migration20261126234640_uncounted_indexes } from './Migration20261126234640_uncounted_indexes.js';
import { Migration20261127004855_session_size } from './Migration20261127004855_session_size.js';
import { Migration20261127011034_rate_limits } from './Migration20261127011034_rate_limits.js';
import { Migration20261127052911_allowed_origins } from './Migration20261127052911_allowed_origins.js';
import { Migration20261127054557_budgets } from './Migration20261127054557_budgets.js';
import { Migration20261127054558_uncounted_replies_index } from './Migration20261127054558_uncounted_replies_index.js';
import { Migration20261127063838_own_limits } from './Migration20261127063838_own_limits.js';
import { Migration20261127064603_people } from './Migration20261127064603_people.js';
import { Migration20261127064604_guests_of_chatbots } from './Migration20261127064604_guests_of_chatbots.js';
import { Migration20261127070811_session_tokens } from './Migration20261127070811_session_tokens.js';
import { Migration20261127070812_tokens_of_before } from './Migration20261127070812_tokens_of_before.js';
import { Migration20261127071202_owner_erasures } from './Migration20261127071202_owner_erasures.js';
import { Migration20261127092726_attempt_first_token } from './Migration20261127092726_attempt_first_token.js';
import { Migration20261127093350_client_message_ids } from './Migration20261127093350_client_message_ids.js';
import { Migration20261127093351_client_message_ids_indexes } from './Migration20261127093351_client_message_ids_indexes.js';
import { Migration20261127100500_count_hits } from './Migration20261127100500_count_hits.js';
import { Migration20261127101148_appearance } from './Migration20261127101148_appearance.js';
import { Migration20261127105437_session_counts } from './Migration20261127105437_session_counts.js';
import { Migration20261127142000_spent_tokens } from './Migration20261127142000_spent_tokens.js';
import { Migration20261127143000_round_trips } from './Migration20261127143000_round_trips.js';
import { Migration20261127200000_take_places } from './Migration20261127200000_take_places.js';

/** In the order in which they run. A file that is not in this list does not exist for the product. */
export const migrations = [
  Migration20261122145257_init,
  Migration20261122150000_event_stream,
  Migration20261122154105_cancel_retry_idempotency,
  Migration20261126185644_paused_replies,
  Migration20261126185645_instructions,
  Migration20261126185646_characteristic_tokens,
  Migration20261126185647_reply_attempts,
  Migration20261126234639_counted_tokens,
  Migration20261126234640_uncounted_indexes,
  Migration20261127004855_session_size,
  Migration20261127011034_rate_limits,
  Migration20261127052911_allowed_origins,
  Migration20261127054557_budgets,
  Migration20261127054558_uncounted_replies_index,
  Migration20261127063838_own_limits,
  Migration20261127064603_people,
  Migration20261127064604_guests_of_chatbots,
  Migration20261127070811_session_tokens,
  Migration20261127070812_tokens_of_before,
  Migration20261127071202_owner_erasures,
  Migration20261127092726_attempt_first_token,
  Migration20261127093350_client_message_ids,
  Migration20261127093351_client_message_ids_indexes,
  Migration20261127100500_count_hits,
  Migration20261127101148_appearance,
  Migration20261127105437_session_counts,
  Migration20261127142000_spent_tokens,
  Migration20261127143000_round_trips,
  Migration20261127200000_take_places,
];
