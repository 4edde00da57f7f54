/** Loaded before the daemon (`node --import`): asks it to stop where the demo that started it is gone, even by kill -9. */
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
// The channel alone must not keep a daemon running that has stopped.
process.channel?.unref();

export {};
