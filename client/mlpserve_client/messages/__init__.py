"""Images into requests and answers into checked results, without waiting for anything; imports only `errors`."""
