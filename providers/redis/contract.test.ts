/** Runs the provider contract against `redis` and a real server. */
import { redisSubject } from '../../test/contract/subjects/redis.ts';
import { describeContract } from '../../test/contract/vitest.ts';
import { missingRedis } from '../../test/support/servers/redis.ts';

describeContract('redis', redisSubject, missingRedis());
